"""How conversations are forked, exported and imported."""

from typing import Any

import pytest
from hypothesis import given

from conversations import (
    ConversationConflict,
    ConversationNotFound,
    InvalidHistory,
    InvalidMessage,
    StoredConversationService,
    StoredMessage,
)
from conversations.memory_store import InMemoryConversationStore
from tests.unit.conversations.histories import (
    answer,
    calls,
    patient,
    result,
    stored_histories,
    transcript_of,
    user,
)


async def test_a_fork_goes_its_own_way(service: StoredConversationService) -> None:
    await service.create(conversation_id="talk", metadata={"tags": ["a"]})
    await service.add_messages("talk", [user("1"), answer("2"), user("3")])
    fork = await service.fork("talk", at=2, new_id="side")
    assert (fork.last_seq, fork.metadata) == (2, {"tags": ["a"]})
    await service.add_message("side", user("other"))
    await service.add_message("talk", user("4"))
    await service.delete("talk")
    read = await service.get_messages("side")
    assert [stored.message.content for stored in read] == ["1", "2", "other"]


async def test_a_fork_of_the_whole_gets_an_id(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    await service.add_messages("talk", [user("1"), calls("1")])
    fork = await service.fork("talk")
    assert fork.id not in ("", "talk")
    await service.add_message(fork.id, result("1"))


async def test_a_fork_cannot_cut_a_call_from_its_results(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    await service.add_messages(
        "talk", [user(), calls("1", "2"), result("1"), result("2")]
    )
    for at in (0, 2, 3, 5):
        with pytest.raises(InvalidHistory, match=r"^at "):
            await service.fork("talk", at=at, new_id="side")
    with pytest.raises(ConversationNotFound):
        await service.get("side")


@patient
@given(stored_histories())
async def test_export_and_import_round_trip(history: list[StoredMessage]) -> None:
    service = StoredConversationService(InMemoryConversationStore())
    made = await service.create(metadata={"tags": []}, config={"max_messages": None})
    text = "".join(transcript_of(made, history))
    copy = await service.import_(text, conversation_id="copy")
    assert (copy.config, copy.metadata) == (made.config, made.metadata)
    exported = await service.export("copy")
    assert exported.split("\n")[1:] == text.split("\n")[1:]
    await service.import_(exported, conversation_id="third")
    assert await service.get_messages("third") == await service.get_messages("copy")


async def test_an_import_keeps_its_id_and_does_not_overwrite(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    await service.add_message("talk", user("1"))
    text = await service.export("talk")
    with pytest.raises(ConversationConflict):
        await service.import_(text)
    assert (await service.import_(text, tenant="other")).id == "talk"


async def test_an_import_is_refused_whole(service: StoredConversationService) -> None:
    await service.create(conversation_id="talk")
    await service.add_messages("talk", [user("1"), calls("1"), result("1")])
    lines = (await service.export("talk")).split("\n")
    del lines[3]
    broken = "\n".join([*lines[:3], lines[1].replace('"seq":1', '"seq":3')])
    with pytest.raises(InvalidHistory):
        await service.import_(broken, conversation_id="copy")
    with pytest.raises(ConversationNotFound):
        await service.get("copy")


async def test_an_import_checks_sizes(service: StoredConversationService) -> None:
    await service.create(conversation_id="talk")
    await service.add_message("talk", user("x" * 500))
    text = await service.export("talk")
    strict = StoredConversationService(
        InMemoryConversationStore(), max_message_bytes=400
    )
    with pytest.raises(InvalidMessage, match="line 2 has"):
        await strict.import_(text)


async def test_export_and_import_keep_the_places_of_deleted_messages(
    service: StoredConversationService,
) -> None:
    await service.create(
        conversation_id="talk", messages=[user(str(n)) for n in range(1, 8)]
    )
    for seq in (1, 3, 4, 7):
        await service.delete_message("talk", seq)
    text = await service.export("talk")
    assert text.count('"deleted"') == 2
    copy = await service.import_(text, conversation_id="copy")
    assert (copy.last_seq, copy.message_count) == (7, 3)
    assert await service.get_messages("copy") == await service.get_messages("talk")
    assert (await service.export("copy")).split("\n")[1:] == text.split("\n")[1:]
    assert (await service.add_message("copy", user())).seq == 8
    for seq in (2, 5, 6):
        await service.delete_message("talk", seq)
    empty = await service.import_(await service.export("talk"), conversation_id="empty")
    assert (empty.last_seq, empty.message_count) == (7, 0)


async def test_an_export_that_lost_messages_on_its_way_is_refused(
    service: StoredConversationService,
) -> None:
    long = [user(str(n)) for n in range(1200)]
    await service.create(
        conversation_id="talk", config={"max_messages": 1200}, messages=long[:1000]
    )
    await service.add_messages("talk", long[1000:])
    lines = service.export_lines("talk")
    for _ in range(100):
        await anext(lines)
    await service.add_messages("talk", [user("late")] * 100)
    rest = [line async for line in lines]
    assert len(rest) == 1200 - 99
    lines = service.export_lines("talk")
    for _ in range(100):
        await anext(lines)
    await service.add_messages("talk", [user("late")] * 700)
    with pytest.raises(ConversationConflict, match="export it again"):
        [line async for line in lines]


@pytest.mark.parametrize(("size", "limits"), [(10, [50, 500]), (100_000, [50, 10])])
async def test_an_export_reads_fewer_messages_at_a_time_where_they_are_long(
    size: int, limits: list[int]
) -> None:
    class Watched(InMemoryConversationStore):
        async def read(self, *args: Any, **page: Any) -> tuple[StoredMessage, ...]:
            asked.append(page["limit"])
            return await super().read(*args, **page)

    asked: list[int] = []
    service = StoredConversationService(Watched())
    messages = [user("x" * size)] * 60
    await service.create(conversation_id="talk", messages=messages)
    await service.import_(await service.export("talk"), conversation_id="copy")
    assert asked == limits
