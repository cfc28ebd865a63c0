"""The official OpenAI client, unmodified, against the facade."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.conversations import Conversation
from openai.types.responses import Response

from conversations.message import ToolCall
from tests.acceptance.openai_client import (
    ADD,
    ITEM,
    client_of,
    poll,
    service,
    sse,
)
from workers.errors import RequestRejected
from workers.llm.provider import CompletionRequest


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
        told = response.error.model_dump()  # the AI SDK reads no error without a type
        assert told["type"] == "server_error"
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


async def test_a_client_that_leaves_does_not_end_a_background_run() -> None:
    async with service(["kept"]) as (_, client):
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        first = await anext(aiter(stream))
        await stream.close()
        assert (await poll(client, first.response.id)).output_text == "kept"
