"""The caller's trace reaches the record, the messages and the endpoint."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from orchestrator.blocking import Orchestrator
from tests.http_service import serving
from tests.integration.http_doors import BODIES
from tests.integration.test_main_job import running
from tests.stand import Stand
from tests.unit.orchestrator.test_trace_context import OTHER, THEIRS, current_span
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)


async def test_the_endpoint_is_told_the_trace_of_the_task_it_is_asked_for(
    stand: Stand,
) -> None:
    """Two traces at once, one of a span and one given, and a task without any."""
    replies = [HttpReply(text="Done.", delay_seconds=0.2)] * 4
    async with running(stand, replies) as (_, double):

        def submit_all() -> None:
            with Orchestrator(stand.settings()) as celeriac:
                with current_span(THEIRS):
                    first, last = celeriac.submit_many(
                        [{"agent": "assistant", "input": {"prompt": "span"}}],
                        then={"agent": "assistant", "input": {"prompt": "then"}},
                    )
                given = celeriac.submit(
                    "assistant", {"prompt": "given"}, traceparent=OTHER
                )
                none = celeriac.submit("assistant", {"prompt": "none"})
                for handle in (first, last, given, none):
                    handle.result(timeout=30)
                assert celeriac.get(last.id).traceparent == THEIRS
                assert next(iter(given.events())).data["traceparent"] == OTHER

        await asyncio.to_thread(submit_all)
        told = {
            str(seen.body["messages"]): seen.headers.get("traceparent")
            for seen in double.requests
        }
    by_prompt = {
        prompt: trace
        for messages, trace in told.items()
        for prompt in ("span", "given", "none", "then")
        if f"'{prompt}'" in messages or f'"prompt": "{prompt}"' in messages
    }
    assert by_prompt == {"span": THEIRS, "then": THEIRS, "given": OTHER, "none": None}


@pytest.mark.parametrize("path", ["/tasks", "/v1/responses", "/v1/chat/completions"])
async def test_a_request_brings_its_trace_and_a_bad_one_none(path: str) -> None:
    async with (
        serving(lambda _: "ok") as service,
        httpx.AsyncClient(base_url=service.url, timeout=20) as client,
    ):
        for header in (THEIRS, "00-broken", OTHER):
            headers = {"traceparent": header}
            answer = await client.post(path, json=BODIES[path], headers=headers)
            assert answer.status_code < 300, answer.text
        plain = await client.post(path, json=BODIES[path])
        assert plain.status_code < 300
        page = await client.get("/tasks")
    traces = [task["traceparent"] for task in page.json()["tasks"]]
    assert traces == [None, OTHER, None, THEIRS]
