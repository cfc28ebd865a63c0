"""A talk with an agent, in one process without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator import EventType, InvalidInput, TaskCancelled, load_settings
from orchestrator.agent_config import AgentConfig
from orchestrator.orchestrator import AsyncOrchestrator
from workers.agent_manager import LocalAgentManager
from workers.in_process import open_orchestrator
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.tools.registry import ToolRegistry


@asynccontextmanager
async def talking(llm: ScriptedLLMProvider) -> AsyncIterator[AsyncOrchestrator]:
    manager = LocalAgentManager(llm, ToolRegistry())
    manager.register_agent(AgentConfig(name="assistant"))
    async with open_orchestrator(load_settings(), manager=manager) as celeriac:
        yield celeriac


def scripted(replies: Script) -> ScriptedLLMProvider:
    return ScriptedLLMProvider(replies=replies)


async def test_a_talk_remembers_and_is_continued_by_its_id() -> None:
    llm = scripted(["Hello Ada.", "Ada.", "Still Ada."])
    async with talking(llm) as celeriac:
        chat = celeriac.chat("assistant")
        assert (await chat.send("I am Ada.", timeout=10)).content == "Hello Ada."
        assert (await chat.send("Who am I?", timeout=10)).content == "Ada."
        again = celeriac.chat("assistant", chat.conversation_id)
        assert (await again.send("And now?", timeout=10)).content == "Still Ada."
        assert len(llm.requests[-1].messages) == 5


async def test_a_streamed_exchange_yields_the_pieces_of_the_answer() -> None:
    async with talking(scripted(["Hello."])) as celeriac:
        chat = celeriac.chat("assistant", "talk")
        events = [event async for event in chat.stream("Hi")]
        said = [e.data["delta"] for e in events if e.type is EventType.TEXT_DELTA]
        assert "".join(said) == "Hello."
        assert events[-1].type is EventType.TASK_COMPLETED


async def test_a_streamed_exchange_asks_for_pieces_before_anybody_follows_it() -> None:
    async with talking(scripted(["Hello."])) as celeriac:
        chat = celeriac.chat("assistant", "talk")
        events = chat.stream("Hi", parameters={"seed": 1})
        await anext(events)
        assert chat.task is not None
        task = await chat.task.get()
        assert task.parameters == {"seed": 1, "stream": True}
        await events.aclose()


@pytest.mark.parametrize("given", [None, [1], "seed"])
async def test_parameters_of_a_streamed_exchange_that_are_none_are_named(given) -> None:
    async with talking(scripted(["Hello."])) as celeriac:
        with pytest.raises(InvalidInput, match="parameters"):
            await anext(celeriac.chat("assistant").stream("Hi", parameters=given))


class SlowModel(ScriptedLLMProvider):
    """Answers the first question never."""

    def __init__(self) -> None:
        super().__init__(replies=["Hello again."])
        self.asked = asyncio.Event()

    async def complete(self, request: CompletionRequest) -> Completion:
        if self.asked.is_set():
            return await super().complete(request)
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("never")


async def test_an_interrupt_ends_the_turn_and_keeps_the_talk() -> None:
    llm = SlowModel()
    async with talking(llm) as celeriac:
        chat = celeriac.chat("assistant", "talk")
        sending = asyncio.create_task(chat.send("Hi", timeout=20))
        await asyncio.wait_for(llm.asked.wait(), 10)
        await chat.interrupt()
        with pytest.raises(TaskCancelled):
            await sending
        assert (await chat.send("Hi again", timeout=10)).content == "Hello again."
        stored = await celeriac.conversations.get_messages("talk")
        assert [each.message.content for each in stored] == [
            "Hi",
            "[This turn was cancelled before it ended.]",
            "Hi again",
            "Hello again.",
        ]
