"""The official OpenAI client, unmodified: histories, their items and pictures."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from conversations.message import ToolCall
from orchestrator.http.facade.ids import item_id
from orchestrator.http.facade.item_references import MOST_RESPONSES
from orchestrator.request import SubmitRequest
from tests.acceptance.openai_client import (
    ADD,
    ITEM,
    service,
)


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


async def test_items_of_earlier_responses_may_be_referred_to() -> None:
    """As the AI SDK sends a talk that it keeps itself; `store` is its default."""
    replies: list[Any] = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        "Sunny.",
        "So it is.",
    ]
    async with service(replies) as (running, client):
        first = await client.responses.create(model="forecaster", input="Rome?")
        call, said = first.output
        referred: list[Any] = [
            {"role": "user", "content": [{"type": "input_text", "text": "Rome?"}]},
            {"type": "item_reference", "id": call.id},
            {"type": "item_reference", "id": call.id},  # for the call's output
            {"id": said.id},
            {"role": "user", "content": "Really?"},
        ]
        second = await client.responses.create(model="forecaster", input=referred)
        assert second.output_text == "So it is."
        seen = running.model.requests[-1].messages
        assert [(m.role.value, m.content) for m in seen] == [
            ("user", "Rome?"),
            ("assistant", ""),
            ("tool", "sunny in Rome"),
            ("assistant", "Sunny."),
            ("user", "Really?"),
        ]


async def test_a_reference_to_what_is_not_stored_is_refused() -> None:
    async with service(lambda _: "one") as (running, client):
        unstored = await client.responses.create(
            model="assistant", input="A", store=False
        )
        stored = await client.responses.create(model="assistant", input="A")
        await client.responses.delete(stored.id)
        unknown = [unstored.output[0].id, stored.output[0].id, "msg_x", "", 5]
        for name in unknown:
            referred: list[Any] = [
                {"role": "user", "content": "A"},
                {"type": "item_reference", "id": name},
            ]
            with pytest.raises(openai.NotFoundError) as refused:
                await client.responses.create(model="assistant", input=referred)
            assert refused.value.param == "input[1].id"
        assert len(running.model.requests) == 2


async def test_references_to_very_many_responses_are_refused() -> None:
    async with service(lambda _: "one") as (running, client):
        requests = [SubmitRequest(agent="assistant", input={"prompt": "A"})]
        many = await running.celeriac.submit_many(requests * (MOST_RESPONSES + 1))
        given: list[Any] = []
        for handle in many:
            await handle.result(timeout=60)
            name = item_id(handle.id, "msg-1")
            given.append({"type": "item_reference", "id": name})
        last: Any = {"role": "user", "content": "A"}
        await client.responses.create(model="assistant", input=[*given[1:], last])
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="assistant", input=[*given, last])
        assert refused.value.param == f"input[{MOST_RESPONSES}].id"


async def test_references_to_more_than_a_body_may_hold_are_refused() -> None:
    """Each names in a few bytes what may be a result of some megabytes."""
    http = {"max_body_bytes": 20_000}
    async with service(lambda _: "x" * 6_000, http=http) as (_, client):
        given: list[Any] = [{"role": "user", "content": "A"}]
        for _ in range(4):
            said = await client.responses.create(model="assistant", input="A")
            given.append({"type": "item_reference", "id": said.output[0].id})
        again = given[1:2] * 3  # stands there once
        await client.responses.create(model="assistant", input=[*given[:4], *again])
        with pytest.raises(openai.APIStatusError) as refused:
            await client.responses.create(model="assistant", input=given)
        assert refused.value.status_code == 413
        assert refused.value.param == "input[4].id"


async def test_an_item_behind_references_is_refused_by_its_own_place() -> None:
    async with service(lambda _: "one") as (_, client):
        first = await client.responses.create(model="assistant", input="A")
        referred: Any = {"type": "item_reference", "id": first.output[0].id}
        wrong: Any = {"role": "bogus", "content": "A"}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(
                model="assistant", input=[referred, referred, wrong]
            )
        assert refused.value.param == "input[2].role"


async def test_an_item_without_an_id_is_no_reference() -> None:
    empty: Any = {}
    async with service(lambda _: "one") as (_, client):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="assistant", input=[empty])
        assert str(refused.value.param).startswith("input[0]")


async def test_a_workers_call_that_a_client_stores_stays_one_with_its_output() -> None:
    """As a session of the Agents SDK stores what a response has given."""
    replies: list[Any] = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        "Sunny.",
    ]
    async with service(replies) as (_, client):
        response = await client.responses.create(model="forecaster", input="Rome?")
        given: list[Any] = [item.to_dict() for item in response.output]
        stored = await client.conversations.create(items=given)
        listed = await client.conversations.items.list(stored.id, order="asc")
        call, said = listed.data
        assert call.type == "mcp_call"
        assert (call.name, call.output) == ("weather", "sunny in Rome")
        assert said.type == "message"


async def test_a_workers_call_in_an_input_is_listed_as_it_was_given() -> None:
    replies: list[Any] = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        "Sunny.",
        "So it is.",
    ]
    async with service(replies) as (_, client):
        first = await client.responses.create(model="forecaster", input="Rome?")
        call = first.output[0]
        given: list[Any] = [
            {"role": "user", "content": "Rome?"},
            call.to_dict(),
            {"role": "user", "content": "Really?"},
        ]
        second = await client.responses.create(model="forecaster", input=given)
        listed = await client.responses.input_items.list(second.id, order="asc")
        assert [item.type for item in listed.data] == ["message", "mcp_call", "message"]
        told: Any = listed.data[1]
        assert (told.name, told.arguments) == ("weather", '{"city":"Rome"}')
        assert (told.output, told.status) == ("sunny in Rome", "completed")
