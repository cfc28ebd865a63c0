from __future__ import annotations

from collections.abc import Callable

import pytest

from conversations import (
    ConversationConfig,
    ConversationDefaults,
    ConversationNotFound,
    InvalidHistory,
    InvalidMessage,
    InvalidRequest,
    Message,
    MessageNotFound,
    Role,
    StoredConversationService,
)
from conversations.memory_store import InMemoryConversationStore
from tests.unit.conversations.histories import (
    answer,
    calls,
    result,
    system,
    user,
)


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
        lambda service: service.list(cursor="9" * 5000),
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
        lambda service: service.delete("talk", at="1"),
        lambda service: service.delete("talk", at=-1),
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
    with pytest.raises(InvalidHistory, match=r"^messages\[3\]\.tool_call_id"):
        await service.create(messages=[first[0], first[0], user(), result("1")])
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
