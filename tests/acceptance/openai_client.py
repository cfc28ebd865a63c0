"""The official OpenAI client on the service, and what its answers must fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.http_service import Service, serving
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
