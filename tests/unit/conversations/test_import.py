"""An import of a long history beside other work."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from conversations import (
    ConversationNotFound,
    InvalidHistory,
    InvalidRequest,
    StoredConversationService,
)
from conversations.memory_store import InMemoryConversationStore
from tests.unit.conversations.histories import calls, result, user


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


async def exported() -> list[str]:
    """Lines of an export whose last message was deleted."""
    service = StoredConversationService(InMemoryConversationStore())
    messages = [user(text) for text in "abcd"]
    await service.create(conversation_id="talk", messages=messages)
    await service.delete_message("talk", 4)
    return (await service.export("talk")).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (slice(0, 1), "the transcript holds 0 of 3 messages: it was cut off"),
        (slice(0, 3), "the transcript holds 2 of 3 messages: it was cut off"),
        (slice(0, 4), "the transcript ends at seq 3 of 4: it was cut off"),
        ([0, 2, 3, 4], "the transcript holds 2 of 3 messages: it was cut off"),
    ],
)
async def test_an_import_that_was_cut_off_between_lines_is_refused(
    kept: slice | list[int], problem: str
) -> None:
    lines = await exported()
    left = lines[kept] if isinstance(kept, slice) else [lines[n] for n in kept]
    service = StoredConversationService(InMemoryConversationStore())
    with pytest.raises(InvalidHistory, match=f"^{problem}"):
        await service.import_lines(left)
    with pytest.raises(ConversationNotFound):
        await service.get("talk")
    assert (await service.import_lines(lines)).message_count == 3


async def test_an_export_whose_head_tells_no_count_is_taken() -> None:
    head, *lines = await exported()
    older = json.loads(head)
    del older["messages"], older["last_seq"]
    service = StoredConversationService(InMemoryConversationStore())
    made = await service.import_lines([json.dumps(older), *lines])
    assert (made.message_count, made.last_seq) == (3, 4)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59-14:00"])
async def test_an_instant_that_is_none_in_utc_is_refused(at: str) -> None:
    lines = await exported()
    line = json.dumps(json.loads(lines[1]) | {"created_at": at})
    service = StoredConversationService(InMemoryConversationStore())
    with pytest.raises(InvalidHistory, match=r"^line 2\.created_at: .*UTC"):
        await service.import_lines([lines[0], line, *lines[2:]])


async def test_what_stands_behind_calls_whose_followers_were_deleted_is_taken() -> None:
    store = InMemoryConversationStore()
    service = StoredConversationService(store)
    await service.create(conversation_id="talk")
    await store.append("default", "talk", [user(), calls("1")], turn="first")
    await store.append("default", "talk", [user(), user()], turn="second")
    await service.add_message("talk", user("by hand"))
    for seq in (3, 4):
        await service.delete_message("talk", seq)
    await service.import_(await service.export("talk"), conversation_id="copy")
    assert await service.get_messages("copy") == await service.get_messages("talk")
    await service.delete_message("talk", 5)
    await service.add_message("talk", result("1"))  # they stand at the end again
    await service.import_(await service.export("talk"), conversation_id="other")
    assert await service.get_messages("other") == await service.get_messages("talk")


async def test_an_empty_id_is_none_to_import_under() -> None:
    service = StoredConversationService(InMemoryConversationStore())
    with pytest.raises(InvalidRequest, match=r"conversation\.id: must be 1 to 64"):
        await service.import_lines(await exported(), conversation_id="")
