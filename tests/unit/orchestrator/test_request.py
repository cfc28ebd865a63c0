"""What a request may hold, and what is said of what it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.acceptance import KnownAgents
from orchestrator.agent_config import AgentConfig, AgentInfo
from orchestrator.errors import InvalidInput, PayloadTooLarge
from orchestrator.request import (
    Defaults,
    SubmitRequest,
    build_task,
    parse_request,
    request_of,
)
from orchestrator.task import Task


def cyclic() -> dict[str, object]:
    value: dict[str, object] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"agent": ""}, "agent: .*1 to 64"),
        ({"agent": "a:b"}, "agent"),
        ({"agent": 7}, "agent"),
        ({"agent": "a", "input": {"x": float("inf")}}, r"input\.x: not JSON"),
        ({"agent": "a", "input": {"x": ["\ud800"]}}, r"input\.x\[0\]: not valid Uni"),
        ({"agent": "a", "input": {1: "x"}}, "input: not JSON"),
        ({"agent": "a", "input": cyclic()}, "input.*64 levels"),
        ({"agent": "a", "input": []}, "input"),
        ({"agent": "a", "metadata": {"x": object()}}, r"metadata\.x: not JSON"),
        ({"agent": "a", "soft_time_limit": 0}, "soft_time_limit: out of range"),
        ({"agent": "a", "time_limit": "soon"}, "time_limit: not a duration"),
        ({"agent": "a", "expires": float("nan")}, "expires"),
        ({"agent": "a", "priority": 10}, "priority"),
        ({"agent": "a", "conversation_id": "a b"}, "conversation_id"),
        ({"agent": "a", "tenant": "_fleet"}, "tenant"),
        ({"agent": "a", "idempotency_key": ""}, "idempotency_key"),
        ({"agent": "a", "not_before": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"agent": "a", "not_before": datetime.max.replace(tzinfo=UTC)}, "ten years"),
        ({"agent": "a", "prioritty": 1}, "prioritty: not a known field"),
    ],
)
def test_a_field_that_cannot_be_taken_is_named(
    fields: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_request(fields)


def test_a_value_is_never_repeated_in_the_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_request({"agent": "a", "priority": "canary-secret"})
    assert "canary-secret" not in str(caught.value)


def test_the_whole_payload_counts_against_the_limit() -> None:
    request = SubmitRequest(
        agent="a", input={"x": "y" * 600}, metadata={"x": "y" * 600}
    )
    with pytest.raises(PayloadTooLarge, match=r"12\d\d bytes exceed the limit of 1000"):
        build_task(request, agent=None, defaults=Defaults(max_input_bytes=1000))


@pytest.mark.parametrize(
    ("asked", "configured", "limits"),
    [
        ({}, {}, (300, 330)),
        ({}, {"soft_time_limit_seconds": 10}, (10, 40)),
        ({}, {"soft_time_limit_seconds": 10, "time_limit_seconds": 20}, (10, 20)),
        ({"soft_time_limit": 5}, {"time_limit_seconds": 20}, (5, 35)),
        ({"time_limit": 5}, {}, (5, 5)),
        ({"soft_time_limit": "1m", "time_limit": "2m"}, {}, (60, 120)),
    ],
)
def test_the_limits_are_the_requests_then_the_agents_then_the_default(
    asked: dict[str, object], configured: dict[str, float], limits: tuple[float, float]
) -> None:
    task = build_task(
        parse_request({"agent": "a", **asked}),
        agent=AgentConfig(name="a", **configured),
        defaults=Defaults(),
    )
    assert (task.soft_time_limit_seconds, task.time_limit_seconds) == limits


def test_limits_that_contradict_each_other_are_refused() -> None:
    request = parse_request({"agent": "a", "soft_time_limit": 10, "time_limit": 5})
    with pytest.raises(InvalidInput, match="must not exceed time_limit"):
        build_task(request, agent=None, defaults=Defaults())


def test_one_of_many_requests_is_named_by_its_place() -> None:
    class Parts:
        defaults = Defaults(max_input_bytes=100)

    requests = [
        SubmitRequest(agent="a"),
        SubmitRequest(agent="a", input={"x": "y" * 200}),
    ]
    with pytest.raises(PayloadTooLarge, match=r"requests\[1\]\.input"):
        KnownAgents(Parts()).build(requests, {"a": None})


def test_a_task_made_by_hand_keeps_its_id_version_and_queue() -> None:
    class Parts:
        defaults = Defaults()

    task = Task(agent_name="a", agent_version="7", queue="gpu")
    known = {"a": AgentInfo(config=AgentConfig(name="a", version="1"))}
    (built,) = KnownAgents(Parts()).build([request_of(task)], known, by_hand=task)
    assert (built.id, built.agent_version, built.queue) == (task.id, "7", "gpu")
    assert built.soft_time_limit_seconds == 300


def test_a_task_made_by_hand_with_an_absurd_limit_is_a_clear_error() -> None:
    task = Task(agent_name="a", expires_seconds=1e18)
    with pytest.raises(InvalidInput, match="expires"):
        request_of(task)


def test_a_start_within_reach_is_taken() -> None:
    start = datetime.now(UTC) + timedelta(hours=1)
    assert parse_request({"agent": "a", "not_before": start}).not_before == start
