"""Health, readiness, status and metrics: what each key is told."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from orchestrator.agent_config import WorkerInfo
from orchestrator.http import status
from orchestrator.journal import Step, StepKind
from orchestrator.store import Ending
from orchestrator.task import Task, TaskResult, TaskStatus, Usage
from tests.unit.orchestrator.http.serving import Served, key_settings, serving

PAGE = Path(__file__).parents[4] / "docs/monitoring.md"
KEYS = key_settings(
    reader=("acme", ("read",)),
    admin=("acme", ("admin",)),
    operator=("other", ("read", "operate")),
    submitter=("acme", ("submit",)),
)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(http={"keys": KEYS}, tenant="acme") as served:
        yield served


@pytest.fixture
async def at_home() -> AsyncIterator[Served]:
    """Without keys, as on one's own machine."""
    async with serving() as served:
        yield served


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def run_one(served: Served, tenant: str, *, model: str = "m:7b") -> None:
    """One task with a completion and a tool call, as a worker would run it."""
    store = served.parts.store
    task = Task(tenant=tenant, agent_name="researcher")
    await store.create([task])
    claim = await store.claim(
        tenant, task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
    steps = (
        Step(
            key="completion:1",
            kind=StepKind.COMPLETION,
            name=model,
            usage=usage,
            seconds=1,
            cost_micros=2_500_000,
            waited_seconds=0.5,
        ),
        Step(key="tool:1", kind=StepKind.TOOL_CALL, name="search", error="tool_failed"),
    )
    for step in steps:
        await store.record_step(claim.lease, step)
    result = TaskResult(task_id=task.id, content="done")
    ending = Ending(status=TaskStatus.COMPLETED, result=result)
    await store.finish(claim.lease, ending, running_seconds=2)


async def announce(served: Served) -> None:
    agents = tuple(info.config for info in await served.orchestrator.agents())
    worker = WorkerInfo(id="h:1:1", hostname="celery@h", pid=1, agents=agents, slots=4)
    await served.parts.directory.announce(worker, ttl_seconds=60)


async def test_liveness_needs_no_key_and_all_else_does(served: Served) -> None:
    assert (await served.client.get("/healthz")).json() == {"status": "ok"}
    for path in ("/readyz", "/status", "/metrics"):
        assert (await served.client.get(path)).status_code == 401, path
        wrong = await served.client.get(path, headers=bearing("wrong"))
        assert wrong.status_code == 401, path
        lacking = await served.client.get(path, headers=bearing("submitter"))
        assert lacking.status_code == 403, path


async def test_ready_means_that_every_part_would_do_its_part(at_home: Served) -> None:
    answer = await at_home.client.get("/readyz")
    assert answer.status_code == 503
    parts = {part["name"]: part for part in answer.json()["parts"]}
    assert [name for name, part in parts.items() if not part["ready"]] == ["workers"]
    assert "celeriac worker" in parts["workers"]["detail"]
    head = await at_home.client.head("/readyz")  # what many a load balancer sends
    assert (head.status_code, head.content) == (503, b"")
    await announce(at_home)
    answer = await at_home.client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


async def test_an_agent_that_nobody_serves_is_named(at_home: Served) -> None:
    agents = await at_home.orchestrator.agents()
    worker = WorkerInfo(
        id="h:1:1", hostname="h", pid=1, agents=(agents[0].config,), slots=1
    )
    await at_home.parts.directory.announce(worker, ttl_seconds=60)
    answer = await at_home.client.get("/readyz")
    assert answer.status_code == 503
    parts = {part["name"]: part["detail"] for part in answer.json()["parts"]}
    detail = parts["workers"]
    assert agents[1].name in detail
    assert agents[0].name not in detail


async def test_without_the_agent_manager_nothing_is_ready_for_a_task() -> None:
    async with serving(services={"agent_manager": {"enabled": False}}) as off:
        await announce(off)
        answer = await off.client.get("/readyz")
        refused = await off.client.post("/tasks", json={"agent": "assistant"})
    assert answer.status_code == 503
    (part,) = [part for part in answer.json()["parts"] if not part["ready"]]
    assert part["name"] == "agent_manager"
    assert "set services.agent_manager.enabled: true" in part["detail"]
    assert (refused.status_code, refused.json()["code"]) == (503, "service_disabled")


async def test_without_conversations_tasks_are_taken_and_histories_refused() -> None:
    async with serving(services={"conversations": {"enabled": False}}) as off:
        await announce(off)
        ready = await off.client.get("/readyz")
        taken = await off.client.post("/tasks", json={"agent": "assistant"})
        body = {"agent": "assistant", "conversation_id": "c"}
        refused = await off.client.post("/tasks", json=body)
    assert (ready.status_code, taken.is_success) == (200, True)
    assert (refused.status_code, refused.json()["code"]) == (503, "service_disabled")


async def test_a_tenant_is_told_its_own_figures_alone(served: Served) -> None:
    await run_one(served, "acme")
    await run_one(served, "rival", model="secret-model")
    for key in ("reader", "admin"):
        text = (await served.client.get("/metrics", headers=bearing(key))).text
        assert 'celeriac_tasks_total{agent="researcher",state="completed"' in text
        assert "rival" not in text
        assert "secret-model" not in text
        assert "celeriac_queue_length" not in text
        status = (await served.client.get("/status", headers=bearing(key))).json()
        assert status["tenant"] == "acme"
        assert status["workers"] is status["queues"] is status["gates"] is None
        researcher = next(a for a in status["agents"] if a["name"] == "researcher")
        assert researcher["ended"] == {"completed": 1}


async def test_who_operates_the_system_is_told_all_of_it(served: Served) -> None:
    await run_one(served, "acme")
    await run_one(served, "rival")
    await announce(served)
    answer = await served.client.get("/metrics", headers=bearing("operator"))
    assert 'tenant="acme"' in answer.text
    assert 'tenant="rival"' in answer.text
    assert 'celeriac_worker_slots{worker="celery@h"} 4.0' in answer.text
    status = (await served.client.get("/status", headers=bearing("operator"))).json()
    assert status["workers"][0]["slots"] == 4
    assert status["gates"]
    assert status["store"]["durability"] == "none"


async def values(served: Served) -> dict[tuple[str, frozenset[str]], float]:
    answer = await served.client.get("/metrics", headers=bearing("reader"))
    return {
        (sample.name, frozenset(sample.labels.values()) - {"acme"}): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_metrics_tell_what_happened_in_base_units(served: Served) -> None:
    await run_one(served, "acme")
    await served.parts.store.create([Task(tenant="acme", agent_name="researcher")])
    found = await values(served)
    expected = {
        ("celeriac_tasks_total", "researcher completed"): 1,
        ("celeriac_unfinished_tasks", "researcher pending"): 1,
        ("celeriac_unfinished_tasks", "researcher running"): 0,
        ("celeriac_task_running_seconds_total", "researcher"): 2,
        ("celeriac_llm_tokens_total", "m:7b input"): 10,
        ("celeriac_llm_tokens_total", "m:7b output"): 5,
        ("celeriac_llm_tokens_total", "m:7b cached_input"): 4,
        ("celeriac_llm_tokens_total", "m:7b reasoning"): 2,
        ("celeriac_llm_cost_total", "m:7b"): 2.5,
        ("celeriac_llm_gate_wait_seconds_total", "m:7b"): 0.5,
        ("celeriac_llm_completions_total", "m:7b"): 1,
        ("celeriac_llm_completion_duration_seconds_sum", "m:7b"): 1,
        ("celeriac_llm_completion_duration_seconds_bucket", "m:7b 1"): 1,
        ("celeriac_llm_completion_duration_seconds_bucket", "m:7b 0.5"): 0,
        ("celeriac_tool_calls_total", "search tool_failed"): 1,
        ("celeriac_task_wait_seconds_count", "researcher"): 1,
        ("celeriac_counts_dropped_total", ""): 0,
    }
    for (name, labels), value in expected.items():
        key = name, frozenset(labels.split())
        assert found.get(key) == value, key


async def test_scrapers_that_want_it_get_openmetrics(at_home: Served) -> None:
    await run_one(at_home, "default")
    await announce(at_home)
    answer = await at_home.client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = list(openmetrics.text_string_to_metric_families(answer.text))
    assert len(families) > 15


@pytest.mark.parametrize(
    "accept", ["text/plain; version=nonsense", "application/openmetrics-text;=;", ","]
)
async def test_an_accept_header_that_makes_no_sense_gets_plain_text(
    at_home: Served, accept: str
) -> None:
    answer = await at_home.client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200


async def test_the_page_of_metrics_lists_what_is_exposed(at_home: Served) -> None:
    await run_one(at_home, "default")
    await announce(at_home)
    text = (await at_home.client.get("/metrics")).text
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }
    rows = re.findall(
        r"^\| `(celeriac_\w+)` \| (\w+) \| (.*?) \|", PAGE.read_text(), re.M
    )
    assert {name for name, _, _ in rows} == set(exposed)
    for name, kind, labels in rows:
        family = exposed[name]
        assert family.type == kind, name
        told = set(re.findall(r"`(\w+)`", labels))
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == told, name


async def test_no_label_names_a_task(at_home: Served) -> None:
    await run_one(at_home, "default")
    assert "task-" not in (await at_home.client.get("/metrics")).text


async def test_metrics_are_written_beside_the_loop(
    at_home: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a thousand agents take seconds."""
    threads: list[int] = []

    def noting(registry: Collector) -> bytes:
        threads.append(threading.get_ident())
        return generate_latest(registry)

    monkeypatch.setattr(status, "choose_encoder", lambda _: (noting, "text/plain"))
    assert (await at_home.client.get("/metrics")).status_code == 200
    assert threads
    assert threading.get_ident() not in threads
