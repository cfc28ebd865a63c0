"""Streams as the official client reads them: without their deltas, and by items."""

from __future__ import annotations

import asyncio
from typing import Any

from openai import AsyncOpenAI

from tests.acceptance.test_openai_client import client_of
from tests.http_service import Service, serving

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
