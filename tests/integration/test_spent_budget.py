"""A spent budget waits for a person, and obeys the decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator import AsyncOrchestrator, TaskFailed
from orchestrator.settings import load_settings
from orchestrator.task import StopReason, Task, TaskStatus
from workers.in_process import open_orchestrator
from workers.llm.double import Double

SECONDS = 30
BUDGET = 1500
"""Fits one completion of at most 600 tokens with its prompt, not two."""
SETTINGS = f"""
agents:
  thrifty:
    kind: llm
    tools: [summarize_document]
    max_output_tokens: 600
    budget: {{tokens: {BUDGET}, when_spent: wait}}
"""
USAGE = {"tool_calls": [{"name": "summarize_document", "arguments": {}}]}


@asynccontextmanager
async def thrifty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *replies: object
) -> AsyncIterator[tuple[AsyncOrchestrator, Double]]:
    async with Double(replies) as double:
        path = tmp_path / "celeriac.yaml"
        path.write_text(SETTINGS)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OPENAI_BASE_URL", double.url)
        async with open_orchestrator(load_settings()) as celeriac:
            yield celeriac, double


async def waiting(celeriac: AsyncOrchestrator, task_id: str) -> Task:
    async with asyncio.timeout(SECONDS):
        while True:
            task = await celeriac.get(task_id)
            if task.status is TaskStatus.WAITING:
                return task
            assert not task.status.is_terminal, task
            await asyncio.sleep(0.01)


def costly(text: str = "thinking " * 300) -> dict[str, object]:
    return {**USAGE, "text": text}


async def test_a_person_lets_the_task_spend_its_budget_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with thrifty(tmp_path, monkeypatch, costly(), "done") as (celeriac, double):
        handle = await celeriac.submit("thrifty", {"prompt": "go"})
        task = await waiting(celeriac, handle.id)
        [call] = task.awaiting
        assert (call.reason, call.tool) == ("budget_spent", "budget")
        assert "budget of task" in str(call.arguments["message"])
        assert "budget is spent" in (task.pending_reason or "")
        assert task.unknown_outcomes == 0
        asked = len(double.requests)
        await celeriac.resolve(handle.id, call.call_id, "run")
        result = await handle.result(timeout=SECONDS)
    assert result.content == "done"
    assert not result.partial
    assert len(double.requests) == asked + 1


async def test_a_budget_given_again_is_spent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replies = [costly(), costly(), costly(), "done"]
    async with thrifty(tmp_path, monkeypatch, *replies) as (celeriac, _):
        handle = await celeriac.submit("thrifty", {"prompt": "go"})
        seen = []
        while len(seen) < 2:
            [call] = (await waiting(celeriac, handle.id)).awaiting
            seen.append(call.call_id)
            await celeriac.resolve(handle.id, call.call_id, "run")
            async with asyncio.timeout(SECONDS):
                while (await celeriac.get(handle.id)).awaiting:
                    await asyncio.sleep(0.01)
        await celeriac.cancel(handle.id)
    assert seen == ["budget:1", "budget:2"]


async def test_a_person_asks_for_an_answer_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with thrifty(tmp_path, monkeypatch, costly("I know a part " * 200)) as (
        celeriac,
        _,
    ):
        handle = await celeriac.submit("thrifty", {"prompt": "go"})
        [call] = (await waiting(celeriac, handle.id)).awaiting
        await celeriac.resolve(handle.id, call.call_id, "done")
        result = await handle.result(timeout=SECONDS)
    assert result.partial
    assert result.stop_reason is StopReason.BUDGET


async def test_a_person_ends_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with thrifty(tmp_path, monkeypatch, costly()) as (celeriac, _):
        handle = await celeriac.submit("thrifty", {"prompt": "go"})
        [call] = (await waiting(celeriac, handle.id)).awaiting
        await celeriac.resolve(handle.id, call.call_id, "fail", note="too dear")
        with pytest.raises(TaskFailed, match="too dear"):
            await handle.result(timeout=SECONDS)
        task = await celeriac.get(handle.id)
    assert task.failure is not None
    assert task.failure.code == "budget_exceeded"
