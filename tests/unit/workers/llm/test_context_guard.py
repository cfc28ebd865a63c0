"""Prompts that are too long for their model, told or not."""

from __future__ import annotations

import pytest

from conversations.message import Message, ToolCall
from conversations.window import estimate_tokens
from orchestrator.task import Usage
from tests.unit.workers.llm.test_governor import Stand, answer
from workers.errors import ContextOverflow
from workers.llm.context_guard import fitted, was_cut
from workers.llm.prompt_size import prompt_tokens
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    FinishReason,
    ToolSpec,
)

WORDS = "word " * 400  # about 500 tokens


def asked(turns: int, **fields: object) -> CompletionRequest:
    messages = [Message(role="system", content="Be brief.")]
    for number in range(turns):
        call = ToolCall(id=f"c{number}", name="look")
        messages += [
            Message(role="user", content=f"{number} {WORDS}"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content=WORDS, tool_call_id=call.id),
            Message(role="assistant", content="seen"),
        ]
    messages.append(Message(role="user", content="and now?"))
    return CompletionRequest(messages=tuple(messages), **fields)


def test_a_prompt_that_fits_is_left_alone():
    request = asked(2)
    assert fitted(request, 100_000) is request


def test_a_prompt_that_does_not_fit_loses_its_oldest_whole_groups():
    request = fitted(asked(8), 4096)
    assert prompt_tokens(request) <= 4096
    messages = request.messages
    assert messages[0].role == "system"
    assert messages[-1].content == "and now?"
    calls = {call.id for message in messages for call in message.tool_calls}
    results = {message.tool_call_id for message in messages if message.role == "tool"}
    assert calls == results


def test_room_is_kept_for_the_answer():
    request = fitted(asked(8, max_output_tokens=1000), 4096)
    assert prompt_tokens(request) <= 3096


def test_room_is_kept_for_the_tools():
    tool = ToolSpec(name="look", description=WORDS)
    request = fitted(asked(8, tools=(tool,)), 4096)
    assert prompt_tokens(request) <= 4096
    assert request.tools == (tool,)


def test_a_question_that_alone_is_too_long_is_refused_with_the_remedy():
    request = CompletionRequest(messages=(Message(role="user", content=WORDS * 9),))
    with pytest.raises(ContextOverflow, match="OLLAMA_CONTEXT_LENGTH") as caught:
        fitted(request, 2048)
    assert caught.value.context_tokens == 2048


def counted_talk(turns: int, *, times: float) -> CompletionRequest:
    """A history whose messages the endpoint has counted: so many times our estimate."""
    messages = []
    for number in range(turns):
        for role in ("user", "assistant"):
            message = Message(role=role, content=f"{number} {WORDS}")
            tokens = int(estimate_tokens(message) * times)
            messages.append(message.model_copy(update={"tokens": tokens}))
    messages.append(Message(role="user", content="and now?"))
    return CompletionRequest(messages=tuple(messages))


def test_a_history_that_fits_as_counted_is_left_alone():
    request = counted_talk(5, times=0.5)
    assert prompt_tokens(request) > 4096
    assert fitted(request, 4096) is request


async def test_an_answer_to_a_prompt_that_fits_as_counted_is_taken():
    told = answer("yes", input_tokens=2500, output_tokens=5)
    stand = Stand({"one": [told]}, context_tokens=4096)
    request = counted_talk(5, times=0.5)
    assert (await stand.provider().complete(request)).message.content == "yes"


async def test_of_a_counted_history_that_is_refused_what_fits_is_kept():
    request = counted_talk(4, times=5.0)
    counted = sum(message.tokens or 0 for message in request.messages)
    overflow = ContextOverflow(
        "long", prompt_tokens=counted, context_tokens=int(counted * 0.9)
    )
    stand = Stand({"one": [overflow, "yes"]})
    await stand.provider().complete(request)
    assert len(stand.llms["one"].requests[1].messages) >= 5


@pytest.mark.parametrize(
    ("read", "output", "reason", "context", "cut"),
    [
        (4096, 10, FinishReason.STOP, 4096, True),
        (9000, 10, FinishReason.STOP, 32_768, False),
        (300, 10, FinishReason.STOP, None, True),
        (4000, 96, FinishReason.LENGTH, None, True),
        (8000, 10, FinishReason.STOP, None, False),
        (0, 10, FinishReason.STOP, 4096, False),
    ],
)
def test_a_cut_prompt_is_known_by_what_was_read(
    read: int, output: int, reason: FinishReason, context: int | None, cut: bool
):
    usage = Usage(input_tokens=read, output_tokens=output)
    completion = Completion(
        message=Message(role="assistant", content="hi"),
        usage=usage,
        finish_reason=reason,
    )
    sent = prompt_tokens(asked(8))
    assert was_cut(asked(8), completion, context, sent=sent) is cut


async def test_a_refused_prompt_is_shortened_once_and_history_is_untouched():
    overflow = ContextOverflow("long", prompt_tokens=9000, context_tokens=4096)
    stand = Stand({"one": [overflow, "yes"]})
    request = asked(8)
    completion = await stand.provider().complete(request)
    assert completion.message.content == "yes"
    first, second = stand.llms["one"].requests
    assert first.messages == request.messages
    assert len(second.messages) < len(first.messages)


@pytest.mark.parametrize(
    ("counted", "context", "most"),
    [(2.0, 0.9, 0.45), (None, 10.0, 0.9), (None, None, 0.5)],
    ids=["it counts twice as much", "it has room, it seems", "it says nothing"],
)
async def test_a_refused_prompt_is_shortened_by_what_the_endpoint_counts(
    counted: float | None, context: float | None, most: float
):
    request = asked(8)
    ours = prompt_tokens(request)
    told = {
        "prompt_tokens": counted and int(ours * counted),
        "context_tokens": context and int(ours * context),
    }
    stand = Stand({"one": [ContextOverflow("long", **told), "yes"]})
    await stand.provider().complete(request)
    shorter = prompt_tokens(stand.llms["one"].requests[1])
    assert 0.5 * most * ours < shorter <= most * ours


async def test_a_prompt_that_is_refused_twice_fails_by_name():
    stand = Stand({"one": [ContextOverflow("long")] * 2})
    with pytest.raises(ContextOverflow, match="long"):
        await stand.provider().complete(asked(8))


async def test_a_known_context_is_kept_before_anything_is_sent():
    stand = Stand({"one": ["yes"]}, context_tokens=4096)
    await stand.provider().complete(asked(8))
    assert prompt_tokens(stand.llms["one"].requests[0]) <= 4096


async def test_an_answer_to_a_cut_prompt_is_not_taken_once_the_context_is_known():
    known: list[int] = []

    async def ask_context(_model: str) -> int | None:
        return known[0] if known else None

    def reply(_request: CompletionRequest) -> Completion:
        known[:] = [4096]  # what Ollama tells once the model is loaded
        return answer("yes", input_tokens=4000, output_tokens=5)

    stand = Stand({"one": reply}, ask_context_tokens=ask_context)
    completion = await stand.provider().complete(asked(20))
    assert completion.message.content == "yes"
    first, second = stand.llms["one"].requests
    assert prompt_tokens(first) > 4096 >= prompt_tokens(second)


async def test_a_prompt_that_was_probably_cut_is_flagged():
    stand = Stand({"one": [answer("yes", input_tokens=200, output_tokens=5)]})
    assert (await stand.provider().complete(asked(8))).context_truncated


@pytest.mark.parametrize(
    ("reads", "grows", "flagged"),
    [
        ((9000, 8000), True, True),
        ((9000, 9400), True, False),
        ((9000, 8000), False, False),
        ((990, 900), True, False),
    ],
    ids=["less of more", "more of more", "less of another prompt", "short prompts"],
)
async def test_less_read_of_a_prompt_that_only_grew_is_flagged(
    reads: tuple[int, int], grows: bool, flagged: bool
):
    replies = [answer("yes", input_tokens=read, output_tokens=5) for read in reads]
    provider = Stand({"one": replies}).provider()
    first = asked(8 if reads[0] > 1000 else 1)
    more = Message(role="user", content="and then?")
    kept = first.messages if grows else first.messages[1:]
    second = first.model_copy(update={"messages": (*kept, more)})
    assert not (await provider.complete(first)).context_truncated
    assert (await provider.complete(second)).context_truncated is flagged


@pytest.mark.parametrize("field", ["model", "tools"])
async def test_what_another_model_or_fewer_tools_read_says_nothing(field: str):
    replies = [
        answer("yes", input_tokens=read, output_tokens=5) for read in (9000, 8000)
    ]
    provider = Stand({"one": replies}).provider()
    first = asked(8, tools=(ToolSpec(name="look"),))
    other = {"model": "another", "tools": ()}[field]
    for request in (first, first.model_copy(update={field: other})):
        assert not (await provider.complete(request)).context_truncated
