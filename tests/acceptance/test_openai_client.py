"""The official OpenAI client, unmodified, against the facade."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from conversations.message import ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.task import RetryPolicy
from tests.http_service import Service, serving
from workers.agent_manager import LocalAgentManager
from workers.errors import RateLimited, RequestRejected
from workers.llm.provider import CompletionRequest
from workers.llm.scripted import Script

EVENT = TypeAdapter(ResponseStreamEvent)
ITEM = TypeAdapter(ConversationItem)
ADD: Any = {
    "type": "function",
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": False,
}
ENDED = ("completed", "failed", "incomplete", "cancelled")


@asynccontextmanager
async def service(
    replies: Script | None = None, **options: Any
) -> AsyncIterator[tuple[Service, AsyncOpenAI]]:
    async with serving(replies, **options) as running, client_of(running.url) as client:
        yield running, client


@asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[AsyncOpenAI]:
    options = {"api_key": "none", "max_retries": 0, **options}
    async with AsyncOpenAI(base_url=f"{url}/v1", **options) as client:
        yield client


async def poll(client: AsyncOpenAI, response_id: str) -> Response:
    async with asyncio.timeout(20):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status in ENDED:
                return response
            await asyncio.sleep(0.01)


def sse(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream; each must be one of the client's own types."""
    assert text.endswith("data: [DONE]\n\n")
    events = []
    for block in text.removesuffix("data: [DONE]\n\n").split("\n\n"):
        if not block or block.startswith(":"):
            continue
        kind, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        EVENT.validate_json(data.removeprefix("data: "), strict=True)
        events.append(event)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    return events


async def test_a_background_response_is_polled_to_its_answer() -> None:
    async with service(["Paris"]) as (_, client):
        created = await client.responses.create(
            model="assistant", input="Capital?", background=True, metadata={"a": "b"}
        )
        assert created.status in ("queued", "in_progress")
        response = await poll(client, created.id)
        assert response.status == "completed"
        assert response.output_text == "Paris"
        assert response.metadata == {"a": "b"}
        assert response.background is True
        assert response.usage is not None
        assert response.usage.total_tokens > 0
        assert response.completed_at is not None


async def test_every_object_fits_the_types_of_the_client_strictly() -> None:
    replies = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        [ToolCall(id="c1", name="add", arguments={"a": 1})],
        "2",
    ]
    async with (
        service(replies) as (running, _),
        httpx.AsyncClient(base_url=f"{running.url}/v1", timeout=20) as raw,
    ):
        conversation = await raw.post("/conversations", json={"metadata": {"k": "v"}})
        Conversation.model_validate_json(conversation.content, strict=True)
        conversation_id = conversation.json()["id"]
        request = {
            "model": "forecaster",
            "input": "hi",
            "tools": [ADD],
            "conversation": conversation_id,
            "instructions": "Be brief.",
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "text"}},
        }
        created = await raw.post("/responses", json=request)
        Response.model_validate_json(created.content, strict=True)
        assert [item["type"] for item in created.json()["output"]] == [
            "mcp_call",
            "function_call",
        ]
        output = {"type": "function_call_output", "call_id": "c1", "output": "2"}
        streamed = await raw.post(
            "/responses",
            json={**request, "input": [output], "stream": True},
        )
        assert streamed.headers["content-type"].startswith("text/event-stream")
        events = sse(streamed.text)
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == "2"
        replay = await raw.get(f"/responses/{created.json()['id']}?stream=true")
        assert [e["type"] for e in sse(replay.text)][-1] == "response.completed"
        items = await raw.get(f"/conversations/{conversation_id}/items")
        kinds = []
        for item in items.json()["data"]:
            ITEM.validate_json(json.dumps(item), strict=True)
            kinds.append(item["type"])
        assert kinds[::-1] == [
            "message",
            "mcp_call",
            "function_call",
            "function_call_output",
            "message",
        ]


async def test_a_stream_has_the_documented_order_and_its_text_is_the_stored_one() -> (
    None
):
    async with service(["Hello there, friend"]) as (_, client):
        kinds, text = [], ""
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        async for event in stream:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
        distinct = list(dict.fromkeys(kinds))
        assert distinct == [
            "response.created",
            "response.queued",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert text == "Hello there, friend"


async def test_a_cut_stream_goes_on_at_any_number_on_another_replica() -> None:
    replies = [[ToolCall(id="c0", name="weather", arguments={"city": "Oslo"})], "Sun"]
    async with (
        service(replies, replicas=2) as (running, client),
        client_of(running.urls[1]) as other,
    ):
        stream = await client.responses.create(
            model="forecaster", input="hi", background=True, stream=True
        )
        first = await anext(aiter(stream))
        await stream.close()
        assert first.type == "response.created"
        response_id = first.response.id
        whole = await other.responses.retrieve(response_id, stream=True)
        events = [event async for event in whole]
        for cut in range(-1, len(events)):
            after = -1 if cut < 0 else events[cut].sequence_number
            rest = await other.responses.retrieve(
                response_id, stream=True, starting_after=after
            )
            assert [event async for event in rest] == events[cut + 1 :]
        assert events[-1].response.output_text == "Sun"


async def test_the_streaming_helper_gives_the_final_response() -> None:
    async with service(["Hello"]) as (_, client):
        async with client.responses.stream(model="assistant", input="hi") as stream:
            async for _event in stream:
                pass
            final = await stream.get_final_response()
        assert final.output_text == "Hello"


async def test_a_cancel_is_final_and_again_harmless() -> None:
    started, answer = asyncio.Event(), asyncio.Event()

    async def hang(request: CompletionRequest) -> str:
        started.set()
        await answer.wait()
        return "never"

    async with service() as (running, client):
        running.model.complete = hang  # type: ignore[method-assign, assignment]
        created = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        first = await anext(aiter(created))
        async with asyncio.timeout(20):
            await started.wait()
        cancelled = await client.responses.cancel(first.response.id)
        assert cancelled.status in ("in_progress", "cancelled")
        rest = [event async for event in created]
        assert rest[-1].type == "response.incomplete"
        assert rest[-1].response.status == "cancelled"
        again = await client.responses.cancel(first.response.id)
        assert again.status == "cancelled"
        assert (await client.responses.retrieve(first.response.id)).status == (
            "cancelled"
        )


async def test_a_synchronous_response_cannot_be_cancelled_and_a_done_one_stays() -> (
    None
):
    async with service() as (_, client):
        done = await client.responses.create(model="assistant", input="hi")
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            await client.responses.cancel(done.id)
        background = await client.responses.create(
            model="assistant", input="hi", background=True
        )
        await poll(client, background.id)
        assert (await client.responses.cancel(background.id)).status == "completed"


async def test_a_later_response_forks_an_earlier_one() -> None:
    async with service(["one", "two", "three"]) as (running, client):
        first = await client.responses.create(model="assistant", input="A")
        second = await client.responses.create(
            model="assistant", input="B", previous_response_id=first.id
        )
        assert second.previous_response_id == first.id
        assert second.conversation is None
        await client.responses.create(
            model="assistant", input="C", previous_response_id=first.id
        )
        said = [[m.content for m in r.messages] for r in running.model.requests]
        assert said == [["A"], ["A", "one", "B"], ["A", "one", "C"]]
        listed = await running.celeriac.conversations.list()
        assert listed.conversations == ()


async def test_functions_of_the_client_make_the_round_trip() -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1})
    async with service([[call], "It is 2."]) as (running, client):
        first = await client.responses.create(
            model="assistant",
            input="1+1?",
            tools=[ADD],
            tool_choice={"type": "function", "name": "add"},
            temperature=0.25,
        )
        item = first.output[-1]
        assert item.type == "function_call"
        assert (item.call_id, json.loads(item.arguments)) == ("c1", {"a": 1})
        assert first.status == "completed"
        asked = running.model.requests[0]
        assert [tool.name for tool in asked.tools] == ["add"]
        assert (asked.forced_tool, asked.temperature) == ("add", 0.25)
        output: Any = {"type": "function_call_output", "call_id": "c1", "output": "2"}
        second = await client.responses.create(
            model="assistant",
            input=[output],
            previous_response_id=first.id,
            tools=[ADD],
        )
        assert second.output_text == "It is 2."
        assert [m.role.value for m in running.model.requests[1].messages] == [
            "user",
            "assistant",
            "tool",
        ]


async def test_the_whole_history_may_come_with_the_request() -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1})
    async with service([[call], "done"]) as (running, client):
        first = await client.responses.create(
            model="assistant", input="1+1?", tools=[ADD], store=False
        )
        history: list[Any] = [{"role": "user", "content": "1+1?"}]
        history += [item.to_dict() for item in first.output]
        history.append({"type": "function_call_output", "call_id": "c1", "output": "2"})
        second = await client.responses.create(
            model="assistant", input=history, tools=[ADD], store=False
        )
        assert second.output_text == "done"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)
        assert [m.role.value for m in running.model.requests[1].messages] == [
            "user",
            "assistant",
            "tool",
        ]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_items_of_a_conversation_come_in_pages(order: Any) -> None:
    async with service(lambda _: "ok") as (_, client):
        conversation = await client.conversations.create(
            items=[{"type": "message", "role": "user", "content": "zero"}]
        )
        for text in ("one", "two"):
            await client.responses.create(
                model="assistant", input=text, conversation=conversation.id
            )
        added = await client.conversations.items.create(
            conversation.id,
            items=[{"type": "message", "role": "user", "content": "three"}],
        )
        assert len(added.data) == 1
        whole = await client.conversations.items.list(conversation.id, order=order)
        assert whole.has_more is False
        for limit in (1, 2, 3):
            pages = client.conversations.items.list(
                conversation.id, order=order, limit=limit
            )
            assert [item.id async for item in pages] == [i.id for i in whole.data]
        ordered = whole.data if order == "asc" else whole.data[::-1]
        texts = [item.content[0].text for item in ordered]
        assert texts == ["zero", "one", "ok", "two", "ok", "three"]
        one = await client.conversations.items.retrieve(
            added.data[0].id, conversation_id=conversation.id
        )
        assert one == added.data[0]
        await client.conversations.items.delete(one.id, conversation_id=conversation.id)
        with pytest.raises(openai.NotFoundError):
            await client.conversations.items.retrieve(
                one.id, conversation_id=conversation.id
            )


async def test_conversations_are_updated_and_deleted() -> None:
    async with service() as (_, client):
        made = await client.conversations.create(metadata={"a": "b"})
        updated = await client.conversations.update(made.id, metadata={"c": "d"})
        assert updated.metadata == {"c": "d"}
        assert (await client.conversations.retrieve(made.id)).metadata == {"c": "d"}
        assert (await client.conversations.delete(made.id)).deleted is True
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(made.id)


async def test_a_deleted_response_is_gone() -> None:
    async with service() as (_, client):
        made = await client.responses.create(model="assistant", input="hi")
        await client.responses.delete(made.id)
        for call in (client.responses.retrieve, client.responses.delete):
            with pytest.raises(openai.NotFoundError, match=made.id):
                await call(made.id)


async def test_models_are_agents() -> None:
    async with service() as (_, client):
        names = [model.id async for model in client.models.list()]
        assert names == ["assistant", "forecaster"]
        assert (await client.models.retrieve("assistant")).owned_by == "celeriac"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("asistant")
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": "asistant"}, "model_not_found", "model"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [{"role": "function", "content": "x"}]}, None, "input[0].role"),
        ({"temperature": 3}, "invalid_input", "temperature"),
        ({"previous_response_id": "resp_x"}, "previous_response_not_found", None),
        (
            {"previous_response_id": "resp_x", "conversation": "conv_x"},
            "mutually_exclusive_parameters",
            None,
        ),
        ({"conversation": "conv_x"}, "conversation_not_found", None),
        ({"background": True, "store": False}, "invalid_value", "store"),
        ({"tools": [{"type": "web_search"}]}, "invalid_value", "tools[0].type"),
        ({"tool_choice": {"type": "function", "name": "no"}}, None, "tool_choice"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            None,
            "input",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "unsupported_content",
            None,
        ),
        ({"metadata": {"x" * 65: "y"}}, "invalid_input", None),
        ({"input": "\ud800"}, None, None),
    ],
)
async def test_errors_name_what_is_wrong(
    fields: dict[str, Any], code: str | None, param: str | None
) -> None:
    body = json.dumps({"model": "assistant", "input": "hi", **fields})
    async with service() as (running, _), httpx.AsyncClient(timeout=20) as raw:
        answer = await raw.post(
            f"{running.url}/v1/responses",
            content=body,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code in (400, 404), answer.text
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert code is None or error["code"] == code
        assert param is None or error["param"] == param
        page = await running.celeriac.list()
        assert page.tasks == ()


async def test_a_run_that_fails_is_a_failed_response() -> None:
    rejected = RequestRejected("no such model", status=404)
    async with service([rejected]) as (_, client):
        response = await client.responses.create(model="assistant", input="hi")
        assert response.status == "failed"
        assert response.error is not None
        assert response.error.code == "server_error"
        assert "no such model" in response.error.message


async def test_an_answer_that_was_cut_is_incomplete() -> None:
    cut = {"text": "half an ans", "finish_reason": "length"}
    async with service([cut]) as (_, client):
        response = await client.responses.create(model="assistant", input="hi")
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.output_text == "half an ans"


async def test_an_idempotency_key_leads_to_the_same_response() -> None:
    async with service() as (running, client):
        headers = {"Idempotency-Key": "once"}

        async def create(text: str) -> Response:
            return await client.responses.create(
                model="assistant", input=text, background=True, extra_headers=headers
            )

        first, second = await create("hi"), await create("hi")
        assert first.id == second.id
        with pytest.raises(openai.BadRequestError) as caught:
            await create("other")
        assert caught.value.code == "idempotency_conflict"
        assert len((await running.celeriac.list()).tasks) == 1


async def test_chat_completions_answer_whole_and_in_pieces() -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1})
    async with service(["Hello", "Hello again", [call]]) as (running, client):
        whole = await client.chat.completions.create(
            model="assistant",
            messages=[
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "hi"},
            ],
            max_tokens=9,
        )
        ChatCompletion.model_validate(whole.to_dict(), strict=True)
        assert whole.choices[0].message.content == "Hello"
        assert whole.choices[0].finish_reason == "stop"
        assert running.model.requests[0].max_output_tokens == 9
        stream = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "Hello again"
        assert chunks[-1].usage is not None
        function = {name: ADD[name] for name in ("name", "parameters")}
        tools = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "1+1?"}],
            tools=[{"type": "function", "function": function}],  # type: ignore[list-item]
        )
        choice = tools.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].id == "c1"


async def test_a_chat_completion_that_fails_is_an_error_that_is_not_tried_again() -> (
    None
):
    limited = RateLimited("slow down", status=429)

    def once(manager: LocalAgentManager) -> None:
        retry = RetryPolicy(max_attempts=1)
        manager.register_agent(AgentConfig(name="assistant", retry=retry))

    async with (
        service([limited], prepare=once) as (running, _),
        client_of(running.url, max_retries=2) as patient,
    ):
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await patient.chat.completions.create(
                model="assistant", messages=[{"role": "user", "content": "hi"}]
            )
        assert len(running.model.requests) == 1


async def test_a_client_that_leaves_does_not_end_a_background_run() -> None:
    async with service(["kept"]) as (_, client):
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        first = await anext(aiter(stream))
        await stream.close()
        assert (await poll(client, first.response.id)).output_text == "kept"


async def test_pictures_reach_the_model_and_come_back_as_items() -> None:
    url = "https://example.com/cat.png"
    async with service(["a cat"]) as (running, client):
        conversation = await client.conversations.create()
        content: Any = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": url, "detail": "low"},
        ]
        response = await client.responses.create(
            model="assistant",
            input=[{"role": "user", "content": content}],
            conversation=conversation.id,
        )
        assert response.output_text == "a cat"
        (asked,) = running.model.requests[0].messages
        assert [(image.url, image.detail) for image in asked.images] == [(url, "low")]
        items = await client.conversations.items.list(conversation.id, order="asc")
        assert [part.type for part in items.data[0].content] == [
            "input_text",
            "input_image",
        ]
        ITEM.validate_json(items.data[0].to_json(), strict=True)
