"""What a worker process refuses before it takes work."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import WorkController
from celery.worker.components import Pool

from orchestrator.settings import Settings
from workers import bootstrap
from workers.bootstrap import AgentStep, WorkerProcessHolder
from workers.broker_link import BrokerLink


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_cannot_run_coroutines_is_refused_with_the_remedy(
    pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pool_class = type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})
    with pytest.raises(SystemExit) as ended:
        AgentStep(SimpleNamespace(pool_cls=pool_class))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"'{pool}'" in said
    assert "--pool threads" in said


def test_agents_start_after_the_pool_whose_loop_they_run_on() -> None:
    """Celery orders steps that nothing orders by the addresses of their classes."""
    blueprint = WorkController.Blueprint({AgentStep})
    order = blueprint._finalize_steps(blueprint.claim_steps())
    assert order.index(AgentStep) > order.index(Pool)
    assert Pool in blueprint.graph[AgentStep]


def _worker(pool: str, *, slots: int, most: int | None = None) -> Any:
    module = "workers.pool" if pool == "pool" else f"celery.concurrency.{pool}"
    return SimpleNamespace(
        hostname="w@h",
        app=SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(**_QUEUES))),
        pool_cls=type("Pool", (), {"__module__": module}),
        pool=SimpleNamespace(num_processes=slots, loop=object()),
        autoscaler=most and SimpleNamespace(max_concurrency=most),
        max_concurrency=most,
        use_eventloop=True,
        soft_time_limit=None,
        time_limit=None,
    )


_QUEUES = {"consume_from": ("celeriac",)}


def test_the_slots_that_are_announced_follow_a_pool_that_grows() -> None:
    holder = WorkerProcessHolder()
    holder.worker = _worker("pool", slots=10)
    slots = holder._facts()["slots"]
    assert slots() == 10
    holder.worker.pool.num_processes += 5
    assert slots() == 15


def test_a_pool_that_scales_itself_announces_what_it_may_grow_to() -> None:
    holder = WorkerProcessHolder()
    holder.worker = _worker("pool", slots=2, most=30)
    assert holder._facts()["slots"]() == 30
    assert holder.slots() == 30
    holder.worker.autoscaler.max_concurrency = 50  # by `celery control autoscale`
    assert holder._facts()["slots"]() == holder.slots() == 50
    holder.worker = _worker("prefork", slots=2, most=30)
    assert holder._facts()["slots"]() == 1
    assert holder.slots() == 30
    holder.drain()
    assert holder.slots() == 0
    holder.serve(_worker("pool", slots=3), Settings())  # a second `worker_main`
    assert holder.slots() == 3


def test_the_queues_that_are_announced_follow_those_that_are_taken_from() -> None:
    holder = WorkerProcessHolder()
    holder.worker = _worker("pool", slots=1)
    queues = holder._facts()["queues"]
    holder.worker.app.amqp.queues.consume_from = ("celeriac", "gpu")
    assert tuple(queues()) == ("celeriac", "gpu")


@pytest.mark.parametrize("pool", ["thread", "solo"])
def test_a_pool_that_cannot_grow_is_not_scaled(
    pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        AgentStep(_worker(pool, slots=1, most=5))
    assert ended.value.code == 2
    assert "--autoscale needs a pool that grows" in capsys.readouterr().err


@pytest.mark.parametrize("most", [0, -1])
def test_a_worker_that_scales_to_no_slot_at_all_is_refused(
    most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        AgentStep(_worker("pool", slots=1, most=most))
    assert ended.value.code == 2
    assert f"--autoscale {most} " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("chosen", "left_out", "taken"),
    [
        (None, None, {"celeriac", "gpu", "mail"}),
        (["celeriac"], None, {"celeriac"}),
        (["gpu"], None, {"gpu"}),
        (None, ["gpu"], {"celeriac", "mail"}),
        (None, ["celeriac"], {"gpu", "mail"}),
        (["gpu", "celeriac"], ["gpu"], {"celeriac"}),
        (["celery"], None, {"celery"}),
    ],
)
def test_a_worker_takes_from_the_queues_of_all_its_agents_unless_told_which(
    monkeypatch: pytest.MonkeyPatch,
    chosen: list[str] | None,
    left_out: list[str] | None,
    taken: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check(_: object) -> frozenset[str]:
        return frozenset(["celeriac", "gpu", "mail"])

    monkeypatch.setattr(bootstrap, "check_startup", check)
    queues = {"celeriac": {"exchange": "celeriac", "routing_key": "celeriac"}}
    app = Celery(set_as_current=False, amqp=BrokerLink)
    app.conf.update(task_queues=queues, task_create_missing_queues=True)
    app.amqp.queues.select(chosen)
    app.amqp.queues.deselect(left_out)
    worker = _worker("pool", slots=1)
    worker.app = app
    AgentStep(worker)
    assert set(app.amqp.queues.consume_from) == taken
    told = "(celery) are those of no agent; leave -Q and -X out, or name some of: celer"
    assert (told in caplog.text) == (taken == {"celery"})


def test_a_signal_that_closes_what_is_just_being_made_is_not_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal's handler runs on the thread that it interrupts."""
    holder, made = WorkerProcessHolder(), threading.Event()

    def interrupted() -> None:
        holder.close()
        made.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "load_settings", interrupted)

    def make() -> None:
        with suppress(KeyboardInterrupt):
            holder.current()

    threading.Thread(target=make, daemon=True).start()
    assert made.wait(10)


def test_our_pool_is_refused_in_a_line_where_celery_has_no_event_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As with a broker such as `memory://`."""
    worker = _worker("pool", slots=1)
    worker.use_eventloop = False
    with pytest.raises(SystemExit) as ended:
        AgentStep(worker)
    assert ended.value.code == 2
    assert "needs Celery's event loop" in capsys.readouterr().err
