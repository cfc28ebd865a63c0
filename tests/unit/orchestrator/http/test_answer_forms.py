"""A form for the answer that is none is refused before a run fails with it."""

from __future__ import annotations

import pytest

from tests.unit.orchestrator.http.serving import serving

NO_SCHEMA = {"type": "person"}
NOWHERE = {"$ref": "#/nowhere"}
LARGE = {"description": "x" * 140_000}
SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    "schema", [NO_SCHEMA, NOWHERE, LARGE], ids=lambda s: next(iter(s))
)
async def test_it_is_refused_by_submits_and_schedules(schema: dict[str, str]) -> None:
    task = {"agent": "assistant", "input": {"prompt": "x"}}
    task |= {"parameters": {"output_schema": schema}}
    async with serving() as served:
        answers = [
            await served.client.post("/tasks", json=task),
            await served.client.put(
                "/schedules/s", json={"cron": "0 7 * * *", "task": task}
            ),
        ]
        assert (await served.orchestrator.list()).tasks == ()
        assert await served.orchestrator.schedules() == ()
    for answer in answers:
        assert answer.status_code == 422
        assert answer.json()["field"] == "parameters.output_schema"


@pytest.mark.parametrize(
    ("agent", "schema"),
    [("assistant", SCHEMA), ("assistant", None), ("summarizer", NO_SCHEMA)],
)
async def test_others_are_taken(agent: str, schema: dict[str, str] | None) -> None:
    """What means something else to its agent too."""
    task = {"agent": agent, "input": {"text": "x", "prompt": "x"}}
    task |= {"parameters": {"output_schema": schema}}
    async with serving() as served:
        answer = await served.client.post("/tasks", json=task)
    assert answer.status_code == 202
