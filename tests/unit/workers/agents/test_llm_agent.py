from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conversations.message import Message, Role, ToolCall
from orchestrator.task import StopReason
from tests.unit.workers.agents.bench import Bench, assert_valid_turn
from workers.agents.agent import AgentResult
from workers.agents.llm_agent import LLMAgent
from workers.errors import AgentFailed, EmptyCompletion, LLMUnavailable
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.reply import Reply, ScriptedCall
from workers.run import Interrupt
from workers.tools.registry import ToolRegistry
from workers.tools.tool import tool

QUESTION = {"prompt": "How much is it?"}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail() -> None:
    """Fail."""
    raise ValueError("the disk is full")


def calls(*names: str, **arguments: Any) -> list[ToolCall]:
    return [
        ToolCall(id=f"c{number}", name=name, arguments=arguments)
        for number, name in enumerate(names)
    ]


def results(result: AgentResult) -> list[str]:
    return [m.content for m in result.messages if m.role is Role.TOOL]


async def test_model_answers_at_once() -> None:
    bench = Bench(["Twelve."], instructions="Be brief.", max_output_tokens=77)
    result = await bench.execute(LLMAgent(), QUESTION)
    assert result == AgentResult(
        content="Twelve.",
        messages=(
            Message(role=Role.USER, content="How much is it?"),
            Message(role=Role.ASSISTANT, content="Twelve."),
        ),
    )
    (request,) = bench.llm.requests
    assert [(m.role.value, m.content) for m in request.messages] == [
        ("system", "Be brief."),
        ("user", "How much is it?"),
    ]
    assert (request.tools, request.max_output_tokens) == ((), 77)


async def test_history_stands_before_the_question() -> None:
    bench = Bench(["Yes."])
    history = (
        Message(role=Role.USER, content="Hello"),
        Message(role=Role.ASSISTANT, content="Hi"),
    )
    result = await bench.execute(LLMAgent(), QUESTION, messages=history)
    assert bench.prompt(0)[:2] == list(history)
    assert len(result.messages) == 2


async def test_several_calls_of_a_turn_run_together_and_are_answered_in_order() -> None:
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        """Meet."""
        await asyncio.wait_for(both.wait(), 5)
        return f"{name} met"

    pair = [
        ToolCall(id="x", name="meet", arguments={"name": "Ann"}),
        ToolCall(id="y", name="meet", arguments={"name": "Bob"}),
    ]
    bench = Bench([pair, "They met."], tools=[meet])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert results(result) == ["Ann met", "Bob met"]
    assert_valid_turn(result.messages)
    assert bench.prompt(1) == list(result.messages[:-1])
    assert [spec.name for spec in bench.llm.requests[0].tools] == ["meet"]


async def test_what_goes_wrong_with_a_tool_is_told_to_the_model() -> None:
    bench = Bench(
        [calls("fail"), calls("add", a="x"), calls("launch"), "I could not."],
        tools=[add, fail],
    )
    result = await bench.execute(LLMAgent(), QUESTION)
    failed, invalid, unknown = results(result)
    assert failed == "fail failed: ValueError: the disk is full"
    assert "a: Input should be a valid integer" in invalid
    assert "b: Field required" in invalid
    assert unknown == "there is no tool 'launch'; the tools are: add, fail"
    assert (result.content, result.partial) == ("I could not.", False)
    assert_valid_turn(result.messages)


async def test_arguments_that_do_not_parse_are_told_and_the_tool_is_not_run() -> None:
    ran: list[str] = []

    def erase(path: str = "/") -> None:
        ran.append(path)

    broken = Reply(tool_calls=(ScriptedCall(name="erase", arguments='{"path": '),))
    bench = Bench([broken, "Sorry."], tools=[erase])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert ran == []
    assert results(result)[0].startswith("No result: invalid arguments: ")
    assert_valid_turn(result.messages)


async def test_call_that_was_cut_off_is_not_run_but_the_ones_before_it_are() -> None:
    cut = Reply(
        tool_calls=(
            ScriptedCall(name="add", arguments={"a": 1, "b": 2}),
            ScriptedCall(name="add", arguments={"a": 1, "b": 2}),
        ),
        finish_reason="length",
    )
    bench = Bench([cut, "Three."], tools=[add])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert results(result)[0] == "3"
    assert "cut off at the token limit" in results(result)[1]
    assert result.stop_reason is StopReason.END_TURN


async def test_obedient_model_runs_no_tool_that_the_agent_does_not_have() -> None:
    ran: list[str] = []

    def wipe() -> None:
        ran.append("wipe")

    bench = Bench([calls("wipe"), "Refused."], tools=[add, wipe])
    bench.config = bench.config.model_copy(update={"tools": ("add",)})
    result = await bench.execute(LLMAgent(), QUESTION)
    assert ran == []
    assert results(result) == ["there is no tool 'wipe'; the tools are: add"]


async def test_turn_limit_asks_for_an_answer_without_tools() -> None:
    endless = [calls("add", a=1, b=1)] * 3
    bench = Bench([*endless, "About six."], tools=[add], max_turns=3)
    result = await bench.execute(LLMAgent(), QUESTION)
    assert (result.content, result.partial) == ("About six.", True)
    assert result.stop_reason is StopReason.MAX_TURNS
    assert len(bench.llm.requests) == 4
    assert bench.llm.requests[-1].tools == ()
    assert "limit of turns or tool calls" in bench.prompt(-1)[-1].content
    assert_valid_turn(result.messages)
    assert len(results(result)) == 3


async def test_tool_call_limit_is_kept_exactly_and_leaves_no_call_open() -> None:
    ran: list[int] = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    bench = Bench(
        [calls("count", "count"), calls("count", "count", "count"), "Enough."],
        tools=[count],
        max_tool_calls=3,
    )
    result = await bench.execute(LLMAgent(), QUESTION)
    assert len(ran) == 3
    assert (
        results(result)[3:] == ["No result: the limit of 3 tool calls is reached."] * 2
    )
    assert result.stop_reason is StopReason.MAX_TURNS
    assert_valid_turn(result.messages)


async def test_agent_that_may_call_no_tool_is_offered_none() -> None:
    bench = Bench(["Fine."], tools=[add], max_tool_calls=0)
    await bench.execute(LLMAgent(), QUESTION)
    assert bench.llm.requests[0].tools == ()


async def test_soft_limit_in_a_tool_keeps_what_was_found_and_asks_once_more() -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    pair = [
        ToolCall(id="c0", name="add", arguments={"a": 1, "b": 2}),
        ToolCall(id="c1", name="hang"),
    ]
    bench = Bench([pair, "Three, at least."], tools=[hang, add])
    running = asyncio.create_task(bench.execute(LLMAgent(), QUESTION))
    bench.run.start(running)
    await asyncio.wait_for(started.wait(), 5)
    await bench.log.wait_for_step(":c0")
    bench.run.interrupt(Interrupt.SOFT_LIMIT)
    result = await asyncio.wait_for(running, 5)
    bench.run.stop()
    assert results(result) == ["3", "No result: the time is over."]
    assert (result.content, result.partial) == ("Three, at least.", True)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    assert "time for this task is over" in bench.prompt(-1)[-1].content
    assert_valid_turn(result.messages)


async def test_soft_limit_in_a_completion_asks_once_more() -> None:
    bench = Bench(["Three."], tools=[add])
    bench.run.interrupt(Interrupt.SOFT_LIMIT)
    result = await bench.execute(LLMAgent(), QUESTION)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    assert result.partial
    assert_valid_turn(result.messages)


async def test_soft_limit_in_the_last_completion_asks_once_more() -> None:
    closing = asyncio.Event()
    bench = Bench([calls("add", a=1, b=1), "Two."], tools=[add], max_turns=1)
    complete = bench.llm.complete

    async def hang_once(request: CompletionRequest) -> Completion:
        if not request.tools and not closing.is_set():
            closing.set()
            await asyncio.Event().wait()
        return await complete(request)

    bench.llm.complete = hang_once  # type: ignore[method-assign]
    running = asyncio.create_task(bench.execute(LLMAgent(), QUESTION))
    bench.run.start(running)
    await asyncio.wait_for(closing.wait(), 5)
    bench.run.interrupt(Interrupt.SOFT_LIMIT)
    result = await asyncio.wait_for(running, 5)
    bench.run.stop()
    assert (result.content, result.partial) == ("Two.", True)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    assert_valid_turn(result.messages)


async def test_model_that_gives_no_answer_at_the_limit_fails_the_run() -> None:
    insists = calls("add", a=1, b=1)
    bench = Bench([insists, insists], tools=[add], max_turns=1)
    with pytest.raises(AgentFailed, match="gave no answer") as caught:
        await bench.execute(LLMAgent(), QUESTION)
    assert caught.value.code == "no_answer"


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"),
    [
        ("length", StopReason.MAX_TOKENS),
        ("content_filter", StopReason.CONTENT_FILTER),
    ],
)
async def test_answer_that_was_cut_is_partial(
    finish_reason: str, stop_reason: StopReason
) -> None:
    bench = Bench([Reply(text="It is", finish_reason=finish_reason)])
    result = await bench.execute(LLMAgent(), QUESTION)
    assert (result.stop_reason, result.partial) == (stop_reason, True)


async def test_empty_completion_is_asked_for_again_once() -> None:
    bench = Bench([EmptyCompletion("empty"), "Here."])
    assert (await bench.execute(LLMAgent(), QUESTION)).content == "Here."
    bench = Bench([EmptyCompletion("empty"), EmptyCompletion("empty"), "Late."])
    with pytest.raises(EmptyCompletion):
        await bench.execute(LLMAgent(), QUESTION)


async def test_endpoint_errors_end_the_run() -> None:
    bench = Bench([calls("add", a=1, b=2), LLMUnavailable("down")], tools=[add])
    with pytest.raises(LLMUnavailable):
        await bench.execute(LLMAgent(), QUESTION)


async def test_parameters_override_the_configuration() -> None:
    bench = Bench(["Yes."], temperature=1.0, seed=1, model="small")
    await bench.execute(
        LLMAgent(),
        QUESTION,
        parameters={"temperature": 0, "top_p": 0.5, "seed": None, "tone": "kind"},
    )
    (request,) = bench.llm.requests
    assert (request.temperature, request.top_p) == (0.0, 0.5)
    assert (request.seed, request.model) == (None, "small")
    assert request.max_output_tokens == 4096


@pytest.mark.parametrize("stop", ["END", ["END"]])
async def test_stop_sequences_are_given_alone_or_as_a_list(
    stop: str | list[str],
) -> None:
    bench = Bench(["Yes. END of it", "No. END"], parameters={"stop": "never"})
    for said in ("Yes. ", "No. "):
        result = await bench.execute(LLMAgent(), QUESTION, parameters={"stop": stop})
        assert result.content == said
    assert [request.stop for request in bench.llm.requests] == [("END",)] * 2


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"temperature": "hot"}, r"parameters\.temperature: .* \(got str\)"),
        ({"seed": True}, r"parameters\.seed: .* \(got bool\)"),
        ({"top_p": 7}, r"parameters\.top_p: .* \(got int\)"),
        ({"model": ["a"]}, r"parameters\.model: .* \(got list\)"),
        ({"max_output_tokens": 0}, r"parameters\.max_output_tokens: "),
        ({"stop": 7}, r"parameters\.stop: .* \(got int\)"),
        ({"stop": ["a"] * 5}, r"parameters\.stop: .* at most 4"),
        ({"stop": ["a", ""]}, r"parameters\.stop: "),
        ({"presence_penalty": 3}, r"parameters\.presence_penalty: "),
        (
            {"tool_choice": {"allowed": ["f"]}},
            r"parameters\.tool_choice\.allowed: \['f'\] are not in tools",
        ),
        (
            {"max_output_tokens": 10**18},
            r"parameters\.max_output_tokens: .* 2147483648",
        ),
    ],
)
async def test_parameter_of_a_wrong_type_is_named(
    parameters: dict[str, Any], text: str
) -> None:
    with pytest.raises(AgentFailed, match=text) as caught:
        await Bench([]).execute(LLMAgent(), QUESTION, parameters=parameters)
    assert caught.value.code == "invalid_parameters"


async def test_tools_of_the_agent_alone_are_offered_beside_the_configured() -> None:
    def mine(word: str) -> str:
        return word.upper()

    bench = Bench(
        [calls("mine", word="yes"), calls("add", a=1, b=2), "Done."], tools=[add]
    )
    agent = LLMAgent(instructions="Be exact.", registry=ToolRegistry([mine]))
    result = await bench.execute(agent, QUESTION)
    assert [spec.name for spec in bench.llm.requests[0].tools] == ["add", "mine"]
    assert bench.prompt(0)[0].content == "Be exact."
    assert results(result) == ["YES", "3"]


async def test_resumed_run_repeats_neither_completions_nor_tools() -> None:
    ran: list[int] = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    first = Bench([calls("count"), LLMUnavailable("down")], tools=[count])
    with pytest.raises(LLMUnavailable):
        await first.execute(LLMAgent(), QUESTION)
    second = Bench(["One."], tools=[count])
    result = await second.execute(LLMAgent(), QUESTION, steps=first.log.steps)
    assert (result.content, len(ran), len(second.llm.requests)) == ("One.", 1, 1)
    assert_valid_turn(result.messages)


async def test_a_call_although_none_may_be_made_is_not_made() -> None:
    made: list[str] = []

    async def look() -> str:
        """Look."""
        made.append("look")
        return "found"

    calls = [ToolCall(id="a", name="look"), ToolCall(id="b", name="theirs")]
    bench = Bench([calls, "Without."], tools=[tool(look)])
    parameters = {"tool_choice": "none", "tools": [{"name": "theirs"}]}
    result = await bench.execute(LLMAgent(), {"prompt": "go"}, parameters=parameters)
    assert (result.content, result.stop_reason) == ("Without.", StopReason.END_TURN)
    assert not made
    assert_valid_turn(result.messages)


async def test_a_tool_that_must_be_called_is_offered_alone_until_it_was() -> None:
    """llama.cpp passes over a `tool_choice` that names one, and calls any."""

    async def look() -> str:
        """Look."""
        return "found"

    async def send() -> str:
        """Send."""
        return "sent"

    calls = [ToolCall(id="a", name="look")]
    bench = Bench([calls, "Found."], tools=[tool(look), tool(send)])
    parameters = {"tool_choice": {"name": "look"}}
    result = await bench.execute(LLMAgent(), {"prompt": "go"}, parameters=parameters)
    assert result.content == "Found."
    first, second = bench.llm.requests
    assert ([t.name for t in first.tools], first.forced_tool) == (["look"], "look")
    assert [t.name for t in second.tools] == ["look", "send"]
    assert second.forced_tool is None
