"""An import of a long history beside other work."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from conversations import (
    ConversationNotFound,
    InvalidHistory,
    StoredConversationService,
)
from conversations.memory_store import InMemoryConversationStore
from tests.unit.conversations.histories import user


async def test_an_import_lets_others_work_and_shows_nothing_before_its_end() -> None:
    service = StoredConversationService(InMemoryConversationStore())
    await service.create(conversation_id="talk", config={"max_messages": None})
    for number in range(2):
        batch = [user(f"{number} {n}") for n in range(1000)]
        await service.add_messages("talk", batch)
    text = await service.export("talk")
    importing = asyncio.create_task(service.import_(text, conversation_id="copy"))
    looks = 0
    while not importing.done():
        looks += 1
        with suppress(ConversationNotFound):
            assert (await service.get("copy")).message_count == 2000
        await asyncio.sleep(0)
    assert (await importing).message_count == 2000
    assert looks >= 10


@pytest.mark.parametrize("transcript", [None, 5, b"{}", ["{}"], {"a": 1}])
async def test_what_is_no_text_is_no_transcript(transcript: object) -> None:
    service = StoredConversationService(InMemoryConversationStore())
    with pytest.raises(InvalidHistory, match=r"transcript must be text \(got "):
        await service.import_(transcript)
