"""What a tool loop does with calls beyond its limits, and with its last words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conversations.message import Message, Role, ToolCall
from orchestrator.task import StopReason
from tests.unit.workers.agents.bench import Bench, assert_valid_turn
from workers.agents.llm_agent import CONCURRENT_TOOL_CALLS, LLMAgent
from workers.errors import AgentFailed, BudgetExceeded
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.reply import Reply, ScriptedCall
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Interrupt

QUESTION = {"prompt": "go"}
UNUSABLE = Reply(tool_calls=(ScriptedCall(name="look", arguments="{"),))
SPENT = BudgetExceeded("the budget is spent")


def look(city: str = "Oslo") -> str:
    """Tell the weather."""
    return f"rain in {city}"


def calls(name: str, count: int) -> list[ToolCall]:
    return [ToolCall(id=f"c{number}", name=name) for number in range(count)]


async def test_a_usable_call_begins_the_count_of_unusable_turns_anew() -> None:
    replies = [UNUSABLE, UNUSABLE, calls("look", 1), UNUSABLE, UNUSABLE, "found"]
    result = await Bench(replies, tools=[look]).execute(LLMAgent(), QUESTION)
    assert result.content == "found"


async def test_calls_that_wait_for_their_turn_are_not_made_after_the_soft_limit() -> (
    None
):
    begun = 0
    all_begun = asyncio.Event()

    async def hang() -> None:
        """Hang."""
        nonlocal begun
        begun += 1
        if begun == CONCURRENT_TOOL_CALLS:
            all_begun.set()
        await asyncio.Event().wait()

    more = CONCURRENT_TOOL_CALLS + 3
    bench = Bench([calls("hang", more), "So far."], tools=[hang])
    running = asyncio.create_task(bench.execute(LLMAgent(), QUESTION))
    bench.run.start(running)
    await asyncio.wait_for(all_begun.wait(), 10)
    bench.run.interrupt(Interrupt.SOFT_LIMIT)
    result = await asyncio.wait_for(running, 10)
    bench.run.stop()
    assert begun == CONCURRENT_TOOL_CALLS
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    assert_valid_turn(result.messages)


@pytest.mark.parametrize(
    ("choice", "later"), [("none", "none"), ("required", "auto"), (None, "auto")]
)
async def test_that_no_tool_may_be_called_holds_for_all_completions(
    choice: str | None, later: str
) -> None:
    bench = Bench([calls("look", 1), "found"], tools=[look])
    parameters: dict[str, Any] = {"tool_choice": choice} if choice else {}
    await bench.execute(LLMAgent(), QUESTION, parameters=parameters)
    asked = [request.tool_choice for request in bench.llm.requests]
    assert asked == [choice or "auto", later]


async def test_the_last_words_are_words() -> None:
    def said(content: str) -> Completion:
        (call,) = calls("none", 1)
        message = Message(role=Role.ASSISTANT, content=content, tool_calls=(call,))
        return Completion(message=message)

    bench = Bench([said("I look it up"), said(""), SPENT, SPENT])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert (result.content, result.stop_reason) == ("I look it up", StopReason.BUDGET)


@pytest.mark.parametrize(
    "asks",
    [{"output_schema": {"type": "integer"}}, {"tool_choice": "required"}],
)
async def test_an_answer_that_cannot_be_paid_to_be_mended_is_the_last_word(
    asks: dict[str, Any],
) -> None:
    bench = Bench(["Twelve", SPENT, SPENT], tools=[look])
    result = await bench.execute(LLMAgent(), QUESTION, parameters=asks)
    assert (result.content, result.stop_reason) == ("Twelve", StopReason.BUDGET)
    assert (result.output, result.partial) == (None, True)
    assert_valid_turn(result.messages)


async def test_what_the_client_says_for_the_model_is_no_answer() -> None:
    said = [(Role.USER, "Hi"), (Role.ASSISTANT, "Hello"), (Role.USER, "Go")]
    messages = [{"role": role.value, "content": text} for role, text in said]
    with pytest.raises(BudgetExceeded):
        await Bench([SPENT, SPENT]).execute(LLMAgent(), {"messages": messages})


async def test_calls_beside_the_last_answer_stay_out_of_the_history() -> None:
    insists = Reply(text="Well,", tool_calls=(ScriptedCall(name="look"),))
    bench = Bench([calls("look", 1), insists], tools=[look], max_turns=1)
    result = await bench.execute(LLMAgent(), QUESTION)
    assert (result.content, result.partial) == ("Well,", True)
    assert_valid_turn(result.messages)


async def test_the_output_of_a_call_that_is_not_open_is_refused() -> None:
    output = Message(role=Role.TOOL, tool_call_id="gone", content="12")
    data = {"messages": [output.model_dump(mode="json")]}
    bench = Bench([])
    with pytest.raises(AgentFailed, match="does not hold open") as refused:
        await bench.execute(LLMAgent(), data)
    assert refused.value.code == "invalid_input"
    assert bench.llm.requests == []


class Stopping(ScriptedLLMProvider):
    """Has its run told of a limit while it works on the first completion."""

    def __init__(self, bench: Bench, limit: str) -> None:
        super().__init__(replies=bench.llm.unused)
        self._bench, self._limit = bench, limit

    async def complete(self, request: CompletionRequest) -> Completion:
        if not self.requests:
            self.requests.append(request)
            if self._limit == "budget":
                raise BudgetExceeded("spent")
            self._bench.run.interrupt(Interrupt.SOFT_LIMIT)
            await asyncio.Event().wait()
        return await super().complete(request)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("soft", StopReason.SOFT_TIME_LIMIT), ("budget", StopReason.BUDGET)],
)
async def test_a_last_answer_is_that_in_a_later_attempt_too(
    limit: str, reason: StopReason
) -> None:
    """Whose journal holds it, so that the limit itself is not met again."""
    made: list[str] = []

    def note() -> None:
        """Note it."""
        made.append("note")

    answer = Reply(text="So far.", tool_calls=(ScriptedCall(name="note"),))
    first = Bench([answer], tools=[note])
    first.llm = Stopping(first, limit)
    result = await first.execute(LLMAgent(), QUESTION)
    later = Bench([], tools=[note])
    again = await later.execute(LLMAgent(), QUESTION, steps=first.log.steps)
    assert (result.content, result.stop_reason) == ("So far.", reason)
    assert again == result
    assert not made


async def test_a_call_that_the_soft_limit_cut_is_not_made_before_the_last_answer() -> (
    None
):
    """The model was told that it had no result, and answered."""
    made: list[str] = []

    async def dig() -> None:
        """Dig."""
        made.append("dig")
        if "look" not in made:
            while not any(step.name == "look" for step in bench.log.steps):
                await asyncio.sleep(0)
            bench.run.interrupt(Interrupt.SOFT_LIMIT)
            await asyncio.Event().wait()

    def look() -> str:
        """Look."""
        made.append("look")
        return "a stone"

    both = ScriptedCall(name="dig"), ScriptedCall(name="look")
    bench = Bench([Reply(tool_calls=both), Reply(text="So far.")], tools=[dig, look])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    later = Bench([], tools=[dig, look])
    again = await later.execute(LLMAgent(), QUESTION, steps=bench.log.steps)
    assert again == result
    assert "a stone" in str(again.messages)
    assert made == ["dig", "look"]
