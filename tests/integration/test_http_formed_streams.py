"""Streams of chat completions whose client reads them as one JSON value."""

from __future__ import annotations

import pytest

from conversations.message import Message, ToolCall
from tests.integration.test_http_parameters import (
    asked,
    chat,
    chat_function,
    pieces_of,
    streamed,
)
from workers.llm.provider import Completion

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FORM = {"type": "json_schema", "json_schema": {"name": "f", "schema": SCHEMA}}
ANSWER = '{"city": "Oslo"}'
CALL = ToolCall(id="c1", name="weather", arguments={"city": "Oslo"})


def saying(text: str) -> Completion:
    return Completion(
        message=Message(role="assistant", content=text, tool_calls=(CALL,))
    )


async def test_of_a_run_with_tools_a_stream_of_json_holds_the_answer_alone() -> None:
    async with asked([saying("I look it up."), "Oslo!", ANSWER]) as (_, client):
        chunks = await streamed(client, model="forecaster", response_format=FORM)
    assert pieces_of(chunks) == [ANSWER]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_calls_of_the_clients_are_streamed_with_what_was_said() -> None:
    tools = [chat_function("look")]
    call = Completion(
        message=Message(
            role="assistant",
            content="I look.",
            tool_calls=(ToolCall(id="c", name="look"),),
        )
    )
    async with asked([call]) as (_, client):
        chunks = await streamed(client, tools=tools, response_format=FORM)
    assert pieces_of(chunks) == ["I look."]
    assert chunks[-2]["choices"][0]["delta"]["tool_calls"][0]["id"] == "c"


async def test_without_tools_json_is_streamed_as_it_comes() -> None:
    async with asked([ANSWER]) as (_, client):
        chunks = await streamed(client, response_format=FORM)
    assert "".join(pieces_of(chunks)) == ANSWER


async def test_words_that_are_no_json_are_not_streamed_as_such() -> None:
    async with asked(["Oslo!", ANSWER]) as (_, client):
        chunks = await streamed(client, response_format=FORM)
    assert "".join(pieces_of(chunks)) == ANSWER


async def test_a_misfit_that_was_streamed_ends_in_an_error_that_says_so() -> None:
    async with asked(['{"town": 1}', ANSWER]) as (_, client):
        chunks = await streamed(client, response_format=FORM)
    assert chunks[-1]["error"]["code"] == "answer_changed"


@pytest.mark.parametrize("model", ["assistant", "forecaster"])
async def test_json_comes_without_the_fence_that_a_model_puts_around_it(
    model: str,
) -> None:
    wanted = {"response_format": {"type": "json_object"}}
    fenced = f"Here it is:\n```json\n{ANSWER}\n```"
    async with asked([fenced, fenced]) as (_, client):
        answer = await client.post("/chat/completions", json=chat(model, **wanted))
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        chunks = await streamed(client, model=model, **wanted)
        assert "".join(pieces_of(chunks)) == ANSWER
