from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given

from conversations import (
    ConversationConfig,
    ConversationConflict,
    ConversationDefaults,
    ConversationNotFound,
    InvalidHistory,
    InvalidMessage,
    InvalidRequest,
    Message,
    MessageNotFound,
    Role,
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
    system,
    transcript_of,
    user,
)


@pytest.fixture
def service() -> StoredConversationService:
    return StoredConversationService(InMemoryConversationStore())


async def test_a_new_conversation_takes_the_default_configuration() -> None:
    default = ConversationConfig(max_messages=9, context_window=4)
    service = StoredConversationService(
        InMemoryConversationStore(), defaults=ConversationDefaults(config=default)
    )
    assert (await service.create()).config == default
    own = await service.create(config={"context_window": 2})
    assert own.config == ConversationConfig(context_window=2)


async def test_messages_are_taken_as_values_and_as_mappings(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    await service.add_message("talk", {"role": "user", "content": "hello"})
    added = await service.add_messages("talk", [answer("hi"), user("bye")])
    assert [stored.seq for stored in added] == [2, 3]
    read = await service.get_messages("talk", limit=2)
    assert [stored.message.content for stored in read] == ["hi", "bye"]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"role": "developer", "content": "x"}, r"messages\[0\]\.role"),
        ({"role": "SYSTEM", "content": "x"}, "role"),
        ({"role": None, "content": "x"}, "NoneType"),
        ({"role": "user", "content": None}, r"messages\[0\]\.content"),
        ({"role": "user", "content": [{"type": "text"}]}, "got list"),
        ({"role": "user", "content": "  "}, "blank"),
        ({"role": "user", "content": "\ud800"}, "surrogate|unicode"),
        ({"role": "user", "content": "x", "metadata": {"n": float("nan")}}, "NaN"),
        ({"role": "user", "content": "x", "metadata": {"o": object()}}, "object"),
        ({"role": "user", "content": "x", "tool_call_id": "1"}, "tool_call_id"),
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "user", "content": "x", "extra": 1}, "extra"),
        ({"content": "x"}, "role"),
    ],
)
async def test_a_message_of_bad_shape_is_refused_by_name_and_not_stored(
    service: StoredConversationService, message: dict[str, object], problem: str
) -> None:
    await service.create(conversation_id="talk")
    with pytest.raises(InvalidMessage, match=problem):
        await service.add_messages("talk", [message, user()])
    assert await service.get_messages("talk") == ()


async def test_a_message_beyond_the_limit_is_refused_with_both_sizes() -> None:
    service = StoredConversationService(
        InMemoryConversationStore(), max_message_bytes=100
    )
    await service.create(conversation_id="talk")
    with pytest.raises(InvalidMessage, match=r"messages\[1\] has \d+ bytes.* 100"):
        await service.add_messages("talk", [user("short"), user("é" * 50)])
    assert await service.get_messages("talk") == ()


async def test_no_error_repeats_what_was_said(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    marker = "sk-marker"
    for message in (
        {"role": marker, "content": marker},
        {"role": "user", "content": [marker]},
        {"role": "user", "content": marker * 100_000},
    ):
        with pytest.raises(InvalidMessage) as caught:
            await service.add_message("talk", message)
        assert marker not in str(caught.value)


async def test_a_tool_message_without_its_call_is_refused(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    with pytest.raises(InvalidHistory):
        await service.add_message("talk", result("1"))


@pytest.mark.parametrize(
    "act",
    [
        lambda service: service.create(conversation_id="a:b"),
        lambda service: service.create(tenant=""),
        lambda service: service.create(config={"context_window": 0}),
        lambda service: service.create(config={"unknown": 1}),
        lambda service: service.create(metadata={"n": float("inf")}),
        lambda service: service.create(metadata={"text": "x" * 300_000}),
        lambda service: service.update_metadata("talk", {"s": "\ud800"}),
        lambda service: service.get("../talk"),
        lambda service: service.get("talk", tenant="a b"),
        lambda service: service.list(limit=0),
        lambda service: service.list(limit=10**9),
        lambda service: service.list(cursor="not a cursor"),
        lambda service: service.list(cursor="9" * 30),
        lambda service: service.list(tenant="*"),
        lambda service: service.get_messages("talk", limit=-1),
        lambda service: service.get_messages("talk", before=-1),
        lambda service: service.get_messages("talk", after=2**60),
        lambda service: service.delete("talk:log"),
        lambda service: service.window(""),
        lambda service: service.get_message("talk", -1),
        lambda service: service.get_message("talk", True),
        lambda service: service.delete_message("talk", 2**60),
        lambda service: service.get_turn("talk", "a:b"),
        lambda service: service.fork("talk", at=-1),
        lambda service: service.fork("talk", at=1.5),
        lambda service: service.branch("talk", at="1"),
        lambda service: service.create(hidden="maybe"),
        lambda service: service.create(config={"ttl_seconds": float("inf")}),
        lambda service: service.create(config={"ttl_seconds": 1e30}),
        lambda service: service.create(
            config={"max_messages": None, "context_window": 10**30}
        ),
        lambda service: service.create(metadata="x"),
        lambda service: service.create(messages={"role": "user", "content": "a"}),
        lambda service: service.update_metadata("talk", None),
        lambda service: service.list(metadata=5),
        lambda service: service.list(cursor=5),
        lambda service: service.get_messages("talk", limit="5"),
        lambda service: service.get_messages("talk", limit=1.5),
        lambda service: service.add_messages("talk", None),
        lambda service: service.add_messages("talk", "hello"),
        lambda service: service.add_messages("talk", [user()] * 1001),
        lambda service: service.add_message("talk", user(), expected_last_seq="0"),
        lambda service: service.add_message("talk", user(), expected_last_seq=-1),
    ],
)
async def test_arguments_out_of_range_are_refused(
    service: StoredConversationService, act: Callable[..., object]
) -> None:
    await service.create(conversation_id="talk")
    with pytest.raises(InvalidRequest):
        await act(service)  # type: ignore[misc]


async def test_the_window_obeys_the_limits_of_the_conversation(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk", config={"context_window": 2})
    await service.add_messages("talk", [system(), *[user(str(n)) for n in range(5)]])
    seen = await service.window("talk")
    assert [message.content for message in seen] == ["be brief", "3", "4"]


async def test_every_method_keeps_tenants_apart(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk", messages=[user()], tenant="ada")
    for act in (
        lambda: service.get("talk", tenant="bob"),
        lambda: service.update_metadata("talk", {}, tenant="bob"),
        lambda: service.add_message("talk", user(), tenant="bob"),
        lambda: service.get_messages("talk", tenant="bob"),
        lambda: service.window("talk", tenant="bob"),
        lambda: service.fork("talk", tenant="bob"),
        lambda: service.export("talk", tenant="bob"),
        lambda: service.get_message("talk", 1, tenant="bob"),
        lambda: service.get_turn("talk", "t1", tenant="bob"),
        lambda: service.delete_message("talk", 1, tenant="bob"),
        lambda: service.branch("talk", at=1, tenant="bob"),
    ):
        with pytest.raises(ConversationNotFound):
            await act()
    assert not await service.delete("talk", tenant="bob")
    assert (await service.list(tenant="bob")).conversations == ()
    assert (await service.get("talk", tenant="ada")).tenant == "ada"


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


async def test_a_conversation_begins_with_messages_or_not_at_all(
    service: StoredConversationService,
) -> None:
    first = [{"role": "user", "content": "a", "client_id": "c"}, calls("1")]
    made = await service.create(
        conversation_id="talk", messages=[*first, *first[:1]][:3:2]
    )
    assert made.last_seq == 1
    for bad, error in (
        ([user(), result("1")], InvalidHistory),
        ([calls("1"), user()], InvalidHistory),
        ([{"role": "critic", "content": "a"}], InvalidMessage),
        ([user("x" * 300_000)], InvalidMessage),
    ):
        with pytest.raises(error, match=r"messages\[[01]\]"):
            await service.create(conversation_id="other", messages=bad)
    with pytest.raises(ConversationNotFound):
        await service.get("other")
    assert (await service.create(messages=first)).last_seq == 2


async def test_hidden_conversations_go_by_themselves() -> None:
    service = StoredConversationService(
        InMemoryConversationStore(),
        defaults=ConversationDefaults(hidden_ttl_seconds=60),
    )
    await service.create(conversation_id="talk", messages=[user()])
    hidden = [
        await service.create(hidden=True, messages=[user()]),
        await service.fork("talk", hidden=True),
        await service.branch("talk", at=1),
    ]
    assert [head.config.ttl_seconds for head in hidden] == [60, 60, 60]
    brief = await service.create(hidden=True, config={"ttl_seconds": 5})
    assert brief.config.ttl_seconds == 5
    shown = [await service.fork("talk"), await service.fork(hidden[0].id)]
    assert [head.config.ttl_seconds for head in shown] == [None, 60]


async def test_one_message_is_read_and_deleted_by_its_number(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk", messages=[user("a"), answer("b")])
    assert (await service.get_message("talk", 2)).message.content == "b"
    assert (await service.delete_message("talk", 2)).message_count == 1
    for seq in (0, 2, 3):
        with pytest.raises(MessageNotFound, match=f"message {seq} was not found"):
            await service.get_message("talk", seq)
        with pytest.raises(MessageNotFound):
            await service.delete_message("talk", seq)
    with pytest.raises(MessageNotFound, match="turn 't1' was not found"):
        await service.get_turn("talk", "t1")


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


async def test_a_message_value_made_by_hand_needs_no_mapping(
    service: StoredConversationService,
) -> None:
    await service.create(conversation_id="talk")
    stored = await service.add_message(
        "talk", Message(role=Role.USER, content="a", client_id="c1")
    )
    again = await service.add_message(
        "talk", {"role": "user", "content": "a", "client_id": "c1"}
    )
    assert again == stored
