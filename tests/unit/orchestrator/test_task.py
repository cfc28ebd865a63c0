"""The task's own rules: transitions, limits, equality of stored forms."""

from __future__ import annotations

from datetime import datetime

import pytest
from pydantic import ValidationError

from orchestrator.task import TRANSITIONS, Task, TaskStatus, Usage

ENDS = {"completed", "failed", "cancelled", "timed_out"}


def test_the_terminal_statuses_lead_nowhere() -> None:
    assert {status.value for status in TaskStatus if status.is_terminal} == ENDS


def test_every_status_is_in_the_table_and_reachable() -> None:
    reachable = {TaskStatus.PENDING}.union(*TRANSITIONS.values())
    assert set(TRANSITIONS) == set(TaskStatus) == reachable


def test_nothing_starts_but_from_pending() -> None:
    before = [old for old, new in TRANSITIONS.items() if TaskStatus.RUNNING in new]
    assert before == [TaskStatus.PENDING]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"agent_name": " "}, "agent_name"),
        ({"not_before": datetime(2020, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"soft_time_limit_seconds": 9, "time_limit_seconds": 8}, "time_limit"),
        ({"cache_ttl_seconds": 1, "conversation_id": "c"}, "cache_ttl"),
        ({"priority": 10}, "priority"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds"),
        ({"tenant": "a:b"}, "tenant"),
        ({"id": "_fleet"}, "id"),
        ({"input": {"x": float("nan")}}, "finite"),
    ],
)
def test_a_field_that_cannot_be_taken_is_named(
    fields: dict[str, object], word: str
) -> None:
    with pytest.raises(ValidationError, match=word):
        Task(**{"agent_name": "a"} | fields)


def test_usage_adds_up_and_reads_its_own_json() -> None:
    total = Usage(input_tokens=1, output_tokens=2) + Usage(input_tokens=3)
    assert total.total_tokens == 6
    assert Usage.model_validate_json(total.model_dump_json()) == total
