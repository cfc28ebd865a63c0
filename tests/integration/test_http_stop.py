"""What the service does with the answers under way when it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from orchestrator.agent_config import AgentConfig
from orchestrator.task import TaskStatus
from tests.http_service import Service, serving
from workers.llm.reply import Reply, ScriptedCall
from workers.tools.tool import tool

CHAT = {"model": "sleeper", "messages": [{"role": "user", "content": "x"}]}
ASK: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "sleeper", "input": "x"},
}


@tool(effect="pure")
async def sleep() -> str:
    """Never wake."""
    await asyncio.Event().wait()
    return "awake"


@asynccontextmanager
async def a_sleeper() -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    async with (
        serving(
            lambda _: Reply(tool_calls=(ScriptedCall(name="sleep", arguments={}),)),
            tools=[sleep],
            prepare=lambda manager: manager.register_agent(
                AgentConfig(name="sleeper", tools=("sleep",))
            ),
        ) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        yield running, client


async def until_it_runs(running: Service) -> None:
    async with asyncio.timeout(10):
        while not any(
            task.status is TaskStatus.RUNNING
            for task in (await running.celeriac.list()).tasks
        ):
            await asyncio.sleep(0.01)


async def is_to_end(running: Service) -> bool:
    """Whether the task was asked to end; the stores that replicas share close here."""
    (task,) = (await running.celeriac.list()).tasks
    return task.cancel_requested_at is not None


@pytest.mark.parametrize("path", ASK)
@pytest.mark.parametrize("key", [None, "k"])
async def test_who_waits_is_told_to_ask_again_and_pays_once(
    path: str, key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    async with a_sleeper() as (running, client):
        asking = asyncio.create_task(client.post(path, json=ASK[path], headers=headers))
        await until_it_runs(running)
        running.servers[0].should_exit = True
        answer = await asking
        # A run that its client can come back for goes on.
        assert await is_to_end(running) == (key is None)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "shutting_down"
    assert answer.headers["Retry-After"] == "1"
    assert "x-request-id" in answer.headers
    assert not [r for r in caplog.records if r.exc_info]


@pytest.mark.parametrize(
    ("path", "ends"), [("/v1/chat/completions", True), ("/v1/responses", False)]
)
async def test_a_stream_is_cut_without_a_word_in_the_log(
    path: str, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_sleeper() as (running, client):
        body = {**ASK[path], "stream": True}
        reading = asyncio.create_task(client.post(path, json=body))
        await until_it_runs(running)
        running.servers[0].should_exit = True
        with pytest.raises(httpx.RemoteProtocolError):
            await reading
        async with asyncio.timeout(10):
            while running.servers[0].server_state.tasks:
                await asyncio.sleep(0.01)
        assert await is_to_end(running) == ends
    errors = [r.message for r in caplog.records if r.levelno >= logging.ERROR]
    assert errors == ["Cancel 1 running task(s), timeout graceful shutdown exceeded"]
