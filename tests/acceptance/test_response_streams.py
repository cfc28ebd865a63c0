"""Streams as the official client reads them: without their deltas, and by items."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from conversations.message import Message, ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.task import RetryPolicy
from tests.acceptance.openai_client import ADD, ITEM, client_of, sse
from tests.http_service import Service, serving
from workers.agent_manager import LocalAgentManager
from workers.errors import RequestRejected, StreamTruncated
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.reply import Reply, ScriptedCall
from workers.llm.scripted import ScriptedAnswer
from workers.tools.tool import tool

DELTA = "response.output_text.delta"
PATIENCE_SECONDS = 30.0


async def events_of(client: AsyncOpenAI, response_id: str, after: int = -1) -> Any:
    stream = await client.responses.retrieve(
        response_id, stream=True, starting_after=after
    )
    return [event async for event in stream]


async def until_deltas_have_gone(service: Service, response_id: str) -> None:
    task = f"task-{response_id.removeprefix('resp_')}"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(e.type.is_delta for e in await service.celeriac.read_events(task)):
            await asyncio.sleep(0.02)


async def test_a_stream_reads_the_same_text_after_its_deltas_have_gone() -> None:
    text = "one two three " * 20
    async with (
        serving(lambda _: text, retention={"delta_ttl": "1s"}) as service,
        client_of(service.url) as client,
    ):
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        live = [event async for event in stream]
        response_id = live[-1].response.id
        await until_deltas_have_gone(service, response_id)
        later = await events_of(client, response_id)
        assert [e for e in live if e.type != DELTA] == [
            e for e in later if e.type != DELTA
        ]
        assert "".join(e.delta for e in later if e.type == DELTA) == text
        numbers = [event.sequence_number for event in later]
        assert numbers == sorted(set(numbers))
        for event in live:
            rest = await events_of(client, response_id, event.sequence_number)
            assert all(e.sequence_number > event.sequence_number for e in rest)
            assert rest[-1:] == (later[-1:] if event is not live[-1] else [])
        async with client.responses.stream(
            response_id=response_id, starting_after=-1
        ) as helped:
            assert (await helped.get_final_response()).output_text == text


@tool(effect="pure")
def report(lines: int) -> str:
    """Write a report."""
    if lines > 5000:
        raise ValueError("x" * 3000)
    return "a line of it\n" * lines


def items_done(events: Any) -> list[Any]:
    """What the stream says of its items, as `output` holds them."""
    ended = [e for e in events if e.type == "response.output_item.done"]
    ended.sort(key=lambda e: e.output_index)  # calls that run together end in any order
    return [e.item for e in ended if e.item.status != "incomplete"]


async def test_the_stream_and_the_response_agree_on_every_item() -> None:
    calls = tuple(
        ScriptedCall(id=f"c{n}", name="report", arguments={"lines": n})
        for n in (1000, 9000, 1)
    )
    replies = [Reply(text="Let me see.", tool_calls=calls), "Done."]

    def prepare(manager: LocalAgentManager) -> None:
        manager.register_agent(AgentConfig(name="reporter", tools=("report",)))

    async with (
        serving(replies, prepare=prepare, tools=[report]) as service,
        client_of(service.url) as client,
    ):
        stream = await client.responses.create(
            model="reporter", input="hi", background=True, stream=True
        )
        events = [event async for event in stream]
        final = events[-1].response
        assert items_done(events) == final.output
        assert final.output == (await client.responses.retrieve(final.id)).output
        outputs = [item.output for item in final.output if item.type == "mcp_call"]
        assert [output and len(output) for output in outputs] == [13_000, None, 13]


async def test_an_item_that_began_anew_has_the_same_id_in_the_response() -> None:
    said = [["one ", "two ", "three"], ["one ", "other"], ["one ", "other"]]

    async with (
        serving(
            [" ".join(each) for each in said],
            prepare=lambda manager: manager.register_agent(
                AgentConfig(name="twice", retry=RetryPolicy(backoff_seconds=0.01))
            ),
        ) as service,
        client_of(service.url) as client,
    ):
        broken = iter(said[:1])

        async def stream_of(request: CompletionRequest) -> Any:
            pieces = next(broken, None)
            for piece in pieces or said[1]:
                yield TextDelta(text=piece)
                await asyncio.sleep(0.15)  # so that each piece is written
            if pieces:
                raise StreamTruncated("cut", endpoint="http://127.0.0.1:9/v1")
            yield await service.model.complete(request)

        service.model._answer = lambda _: "one other"
        service.model.stream = stream_of  # type: ignore[method-assign]
        stream = await client.responses.create(
            model="twice", input="hi", background=True, stream=True
        )
        events = [event async for event in stream]
        ended = [e.item for e in events if e.type == "response.output_item.done"]
        assert [item.status for item in ended] == ["incomplete", "completed"]
        final = events[-1].response
        assert final.output == ended[1:]
        assert final.output_text == "one other"


ANSWERS: dict[str, ScriptedAnswer] = {
    "hello": "one two three",
    "tool": ToolCall(id="c0", name="weather", arguments={"city": "Rome"}),
    "unknown tool": ToolCall(id="c0", name="nothing", arguments={}),
    "client": ToolCall(id="c1", name="add", arguments={"a": 1}),
    "long": Reply(text="cut off", finish_reason="length"),
    "filter": Reply(text="cut off", finish_reason="content_filter"),
    "fail": RequestRejected("no", endpoint="http://127.0.0.1:9/v1", status=400),
}


def by_prompt(request: CompletionRequest) -> ScriptedAnswer:
    return ANSWERS.get(request.messages[-1].content, "done")


ENDINGS = {
    "hello": "completed",
    "tool": "completed",
    "unknown tool": "completed",
    "client": "completed",
    "long": "incomplete",
    "filter": None,
    "fail": "failed",
    "hang": "cancelled",
}
STATUSES = ("completed", "incomplete", "failed", "cancelled")


@pytest.mark.parametrize("prompt", ENDINGS)
async def test_all_that_is_sent_fits_the_types_of_the_client_strictly(
    prompt: str,
) -> None:
    async with (
        serving(by_prompt, retention={"delta_ttl": "1s"}) as service,
        httpx.AsyncClient(base_url=f"{service.url}/v1", timeout=30) as raw,
    ):
        answer = service.model.complete

        async def complete(request: CompletionRequest) -> Completion:
            if request.messages[-1].content == "hang":
                await asyncio.Event().wait()
            return await answer(request)

        service.model.complete = complete  # type: ignore[method-assign]
        body: dict[str, Any] = {
            "model": "forecaster",
            "input": prompt,
            "tools": [ADD] if prompt == "client" else [],
            "background": True,
        }
        created = await raw.post("/responses", json=body)
        Response.model_validate_json(created.content, strict=True)
        path = f"/responses/{created.json()['id']}"
        if prompt == "hang":
            cancelled = await raw.post(f"{path}/cancel")
            Response.model_validate_json(cancelled.content, strict=True)
        events = sse((await raw.get(f"{path}?stream=true")).text)
        final = await raw.get(path)
        Response.model_validate_json(final.content, strict=True)
        assert final.json() == events[-1]["response"]
        wanted = ENDINGS[prompt]
        assert final.json()["status"] in ((wanted,) if wanted else STATUSES)
        await until_deltas_have_gone(service, created.json()["id"])
        later = sse((await raw.get(f"{path}?stream=true")).text)
        assert later[-1] == events[-1]
        items = await raw.get(f"{path}/input_items")
        for item in items.json()["data"]:
            ITEM.validate_json(json.dumps(item), strict=True)


async def test_a_failed_call_may_come_back_with_the_history() -> None:
    async with (
        serving(by_prompt) as service,
        client_of(service.url) as client,
    ):
        first = await client.responses.create(model="forecaster", input="unknown tool")
        (call,) = [item for item in first.output if item.type == "mcp_call"]
        assert call.status == "failed"
        assert call.error is not None
        history: Any = [
            {"role": "user", "content": "unknown tool"},
            *(item.to_dict() for item in first.output),
            {"role": "user", "content": "hello"},
        ]
        again = await client.responses.create(model="forecaster", input=history)
        assert again.output_text == "one two three"
        (told,) = [m for m in service.model.requests[-1].messages if m.tool_call_id]
        assert "nothing" in told.content


def hide(message: Message) -> Message:
    return message.model_copy(
        update={"content": message.content.replace("4111", "[card]")}
    )


async def test_the_answer_is_true_and_its_history_redacted() -> None:
    services = {"conversations": {"redact": f"{__name__}:hide"}}
    async with (
        serving(lambda _: "your card is 4111 1111", services=services) as service,
        client_of(service.url) as client,
    ):
        talk = await client.conversations.create()
        stream = await client.responses.create(
            model="assistant",
            input="my card is 4111",
            conversation=talk.id,
            stream=True,
        )
        events = [event async for event in stream]
        final = events[-1].response
        told = "".join(e.delta for e in events if e.type == DELTA)
        assert told == final.output_text == "your card is 4111 1111"
        items = await client.conversations.items.list(talk.id)
        assert "4111 " not in items.model_dump_json()
        assert items.model_dump_json().count("[card]") == 2
        await client.responses.create(
            model="assistant", input="again", conversation=talk.id
        )
        asked = [m.content for m in service.model.requests[-1].messages]
        assert asked == ["my card is [card]", "your card is [card] 1111", "again"]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_arguments_of_a_call_come_as_deltas_where_its_item_has_none(
    is_streamed: bool,
) -> None:
    """Clients add them up, as pydantic-ai does, which takes no item that has some."""
    replies = [[ToolCall(id="c0", name="weather", arguments={"city": "Oslo"})], "Sun"]
    async with serving(replies) as service, client_of(service.url) as client:
        if is_streamed:
            stream = await client.responses.create(
                model="forecaster", input="Oslo?", stream=True
            )
            events = [event async for event in stream]
        else:
            response = await client.responses.create(model="forecaster", input="Oslo?")
            events = await events_of(client, response.id)
        added = {
            event.output_index: event.item.arguments
            for event in events
            if event.type == "response.output_item.added"
            and event.item.type == "mcp_call"
        }
        for event in events:
            if event.type == "response.mcp_call_arguments.delta":
                added[event.output_index] += event.delta
            elif event.type == "response.mcp_call_arguments.done":
                assert added[event.output_index] == event.arguments
        assert added == {0: '{"city":"Oslo"}'}
        kinds = [e.type for e in events if getattr(e, "output_index", None) == 0]
        told = ["mcp_call_arguments.delta", "mcp_call_arguments.done"]
        assert kinds == [
            "response.output_item.added",
            "response.mcp_call.in_progress",
            *(f"response.{kind}" for kind in told if is_streamed),
            "response.mcp_call.completed",
            "response.output_item.done",
        ]
