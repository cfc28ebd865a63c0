"""The official OpenAI client, unmodified: histories, their items and pictures."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from conversations.message import ToolCall
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
