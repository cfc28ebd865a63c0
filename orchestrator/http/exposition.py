"""The figures as Prometheus reads them: every metric's name, kind, labels and meaning.

Nothing is kept in the process: each answer is read from the store, so any replica tells
the same and a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from orchestrator.figures_store import TenantFigures
from orchestrator.metrics import BUCKETS_SECONDS, DROPPED, Times
from orchestrator.overview import Overview

_MICROS: Final = 1_000_000
_UNITS: Final = {"cost": _MICROS, "gate_ms": 1000, "running_ms": 1000}
"""How many of a counter's units make one of the metric's."""
_BOUNDS: Final = (*(f"{bound:g}" for bound in BUCKETS_SECONDS), "+Inf")

_COUNTERS: Final = (
    # Metric, its labels, the counter it comes from, what it tells.
    (
        "celeriac_attempts_released",
        ("agent", "cause"),
        "released",
        "Attempts that ended although their task did not, by cause.",
    ),
    (
        "celeriac_task_running_seconds",
        ("agent",),
        "running_ms",
        "Time that ended tasks have spent in `running`, over all attempts.",
    ),
    (
        "celeriac_llm_tokens",
        ("model", "type"),
        "tokens",
        "Tokens as the endpoints counted them; cached_input and reasoning are parts"
        " of input and output.",
    ),
    (
        "celeriac_llm_cost",
        ("model",),
        "cost",
        "Money by the configured prices, in your currency.",
    ),
    (
        "celeriac_llm_gate_wait_seconds",
        ("model",),
        "gate_ms",
        "Time that answered completions have waited for a permit, in their slots.",
    ),
)
_TIMES: Final = (
    (
        "celeriac_task_duration_seconds",
        ("agent", "state"),
        "ended",
        "From acceptance to the end of a task.",
    ),
    (
        "celeriac_task_wait_seconds",
        ("agent",),
        "wait",
        "From when a task was due to a worker's claim, for each claim.",
    ),
    (
        "celeriac_llm_completion_duration_seconds",
        ("model",),
        "completion",
        "From asking for a completion to its answer, waits at the gate included.",
    ),
    (
        "celeriac_tool_call_duration_seconds",
        ("tool", "outcome"),
        "call",
        "How long tool calls took; the outcome is ok or a tool error's code.",
    ),
)
_UNFINISHED: Final = ("pending", "running", "waiting")
_LAST: Final = {"agent", "model", "tool"}
"""Labels whose value stands last in a counter's field."""


class FiguresCollector(Collector):
    """Yields what was read of the tenants and, for who operates it, of the system."""

    def __init__(
        self, figures: Mapping[str, TenantFigures], fleet: Overview | None
    ) -> None:
        self._figures = figures
        self._counters = {tenant: each.counters for tenant, each in figures.items()}
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        yield from self._tasks()
        for name, labels, counter, text in _COUNTERS:
            yield self._counter(name, labels, counter, text)
        for name, labels, counter, text in _TIMES:
            yield self._histogram(name, labels, counter, text)
        yield from self._totals()
        yield from self._ages()
        if self._fleet is not None:
            yield from _of_fleet(self._fleet)

    def _tasks(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "celeriac_unfinished_tasks",
            "Tasks that have not ended, by where they stand.",
            labels=("tenant", "agent", "state"),
        )
        for tenant, counters in self._counters.items():
            amounts = counters.by_labels("tasks", 2)
            ended = {agent for _, agent in counters.times("ended", 2)}
            for agent in sorted(ended | {agent for _, agent in amounts}):
                for state in _UNFINISHED:
                    amount = max(0, amounts.get((state, agent), 0))
                    gauge.add_metric((tenant, agent, state), amount)
        yield gauge

    def _counter(
        self, name: str, labels: tuple[str, ...], counter: str, text: str
    ) -> Metric:
        family = CounterMetricFamily(name, text, labels=("tenant", *labels))
        for tenant, counters in self._counters.items():
            for key, amount in counters.by_labels(counter, len(labels)).items():
                value = amount / _UNITS.get(counter, 1)
                family.add_metric((tenant, *_ordered(labels, key)), value)
        return family

    def _histogram(
        self, name: str, labels: tuple[str, ...], counter: str, text: str
    ) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("tenant", *labels))
        for tenant, counters in self._counters.items():
            for key, times in counters.times(counter, len(labels)).items():
                family.add_metric(
                    (tenant, *_ordered(labels, key)), _buckets(times), times.seconds
                )
        return family

    def _totals(self) -> Iterator[Metric]:
        """What the counts of durations tell beside the durations."""
        ended = CounterMetricFamily(
            "celeriac_tasks",
            "Tasks that have ended, by how.",
            labels=("tenant", "agent", "state"),
        )
        calls = CounterMetricFamily(
            "celeriac_tool_calls",
            "Tool calls that ended, by how.",
            labels=("tenant", "tool", "outcome"),
        )
        completions = CounterMetricFamily(
            "celeriac_llm_completions",
            "Completions recorded.",
            labels=("tenant", "model"),
        )
        dropped = CounterMetricFamily(
            "celeriac_counts_dropped",
            "Counts that found no room: too many names of models and tools.",
            labels=("tenant",),
        )
        for tenant, counters in self._counters.items():
            for (state, agent), times in counters.times("ended", 2).items():
                ended.add_metric((tenant, agent, state), sum(times.counts))
            for (outcome, tool), times in counters.times("call", 2).items():
                calls.add_metric((tenant, tool, outcome), sum(times.counts))
            for (model,), times in counters.times("completion", 1).items():
                completions.add_metric((tenant, model), sum(times.counts))
            dropped.add_metric((tenant,), counters.total(DROPPED))
        yield from (ended, calls, completions, dropped)

    def _ages(self) -> Iterator[Metric]:
        oldest = GaugeMetricFamily(
            "celeriac_oldest_due_task_seconds",
            "For how long the oldest due task has waited, of the 500 oldest pending.",
            labels=("tenant", "agent"),
        )
        for tenant, (counters, waits) in self._figures.items():
            known = [*counters.by_labels("tasks", 2), *counters.times("ended", 2)]
            for agent in sorted({agent for _, agent in known} | waits.keys()):
                oldest.add_metric((tenant, agent), waits.get(agent, 0.0))
        yield oldest


def _of_fleet(overview: Overview) -> Iterator[Metric]:
    yield _gauge(
        "celeriac_queue_length",
        "Due tasks that no worker has claimed.",
        ("queue",),
        (((queue.name,), queue.length) for queue in overview.queues or ()),
    )
    yield _gauge(
        "celeriac_queue_slots",
        "Runs that the live workers of a queue hold at once.",
        ("queue",),
        (((queue.name,), queue.slots) for queue in overview.queues or ()),
    )
    yield _gauge(
        "celeriac_agent_workers",
        "Live workers that serve an agent.",
        ("agent",),
        (((agent.name,), agent.workers) for agent in overview.agents),
    )
    yield from _of_store(overview)
    yield from _of_workers(overview)
    yield from _of_gates(overview)
    yield _gauge(
        "celeriac_build_info",
        "The release of the HTTP service; always 1.",
        ("version",),
        [((version("celeriac"),), 1)],
    )


def _of_store(overview: Overview) -> Iterator[Metric]:
    store = overview.store or {}
    yield _gauge(
        "celeriac_store_unfit",
        "1 while the store would lose tasks, so that no new ones are taken.",
        (),
        [((), int("unfit" in store))],
    )
    yield _gauge(
        "celeriac_store_durability",
        "What the store's writes outlive: none, process, os or unknown; always 1.",
        ("level",),
        [((store["durability"],), 1)] if "durability" in store else [],
    )


def _of_workers(overview: Overview) -> Iterator[Metric]:
    workers = overview.workers or ()
    yield _gauge(
        "celeriac_worker_slots",
        "Runs that a worker process holds at once.",
        ("worker",),
        (((worker.hostname,), worker.slots) for worker in workers),
    )
    yield _gauge(
        "celeriac_worker_runs",
        "Runs that a worker process holds now.",
        ("worker",),
        (((worker.hostname,), worker.running) for worker in workers),
    )
    yield _gauge(
        "celeriac_worker_loop_lag_seconds",
        "How late a worker's event loop is: something blocks it.",
        ("worker",),
        (
            ((worker.hostname,), worker.loop_lag_seconds)
            for worker in workers
            if worker.loop_lag_seconds is not None
        ),
    )


def _of_gates(overview: Overview) -> Iterator[Metric]:
    gates = overview.gates or ()
    labels = ("endpoint", "model")
    facts = (
        ("in_flight", "Calls of a model that has limits being answered."),
        ("waiting", "Tasks that wait for their turn to call a model."),
        ("closed_for_seconds", "Until a model may be called again; 0 when it may."),
    )
    for fact, text in facts:
        yield _gauge(
            f"celeriac_gate_{fact}",
            text,
            labels,
            (((gate.endpoint, gate.model), getattr(gate, fact)) for gate in gates),
        )


def _gauge(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    summed: dict[tuple[str, ...], float] = {}
    for key, value in values:
        summed[key] = summed.get(key, 0.0) + value
    for key, value in summed.items():
        family.add_metric(key, value)
    return family


def _ordered(labels: tuple[str, ...], key: tuple[str, ...]) -> tuple[str, ...]:
    """Labels in the metric's order; in a field the freely chosen name stands last."""
    if labels[0] in _LAST and len(labels) > 1:
        return (key[-1], *key[:-1])
    return key


def _buckets(times: Times) -> list[tuple[str, float]]:
    return list(zip(_BOUNDS, map(float, accumulate(times.counts)), strict=True))
