"""What every conversation store does with conversations."""

from __future__ import annotations

import asyncio

import pytest

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationConflict,
    ConversationNotFound,
    ConversationStore,
)
from tests.conformance.conversation_steps import (
    contents,
    created,
    eventually,
    seqs,
    unlimited,
    user,
)


class TestHeads:
    async def test_a_new_conversation_is_read_back_with_the_instants_of_the_store(
        self, store: ConversationStore
    ) -> None:
        given = Conversation(
            id="talk",
            config=ConversationConfig(max_messages=7, context_window=3, ttl_seconds=60),
            metadata={"owner": "é\x00", "tags": [], "deep": {"empty": {}}},
        )
        stored = await store.create(given)
        assert stored.created_at is not None
        assert stored.created_at == stored.updated_at
        assert stored.created_at.tzinfo is not None
        instants = {"created_at": stored.created_at, "updated_at": stored.updated_at}
        assert stored == given.model_copy(update=instants)
        assert await store.get("default", "talk") == stored

    async def test_an_id_is_given_out_once(self, store: ConversationStore) -> None:
        await created(store)
        with pytest.raises(ConversationConflict, match="exists already"):
            await created(store)

    async def test_an_unknown_conversation_is_not_found(
        self, store: ConversationStore
    ) -> None:
        for act in (
            lambda: store.get("default", "absent"),
            lambda: store.read("default", "absent"),
            lambda: store.read_window("default", "absent"),
            lambda: store.update_metadata("default", "absent", {}),
            lambda: store.append("default", "absent", [user("hello")]),
        ):
            with pytest.raises(ConversationNotFound):
                await act()
        assert not await store.delete("default", "absent")

    async def test_an_id_cannot_reach_into_another_key(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user("hello")])
        for name in ("talk:log", "", "..", "_index"):
            with pytest.raises(ConversationNotFound):
                await store.get("default", name)
            assert not await store.delete("default", name)

    async def test_metadata_is_replaced_and_the_change_is_dated(
        self, store: ConversationStore
    ) -> None:
        before = await created(store)
        changed = await store.update_metadata("default", "talk", {"list": [], "n": 1})
        assert changed.metadata == {"list": [], "n": 1}
        assert before.updated_at is not None
        assert changed.updated_at is not None
        assert changed.updated_at >= before.updated_at
        assert await store.get("default", "talk") == changed

    async def test_what_was_handed_out_does_not_change_what_is_stored(
        self, store: ConversationStore
    ) -> None:
        metadata: dict[str, object] = {"tags": ["a"]}
        given = Conversation(id="talk", metadata=metadata)
        (await store.create(given)).metadata["tags"] = None
        given.metadata["tags"] = None
        (await store.get("default", "talk")).metadata.clear()
        assert (await store.get("default", "talk")).metadata == {"tags": ["a"]}
        message = user("hello", metadata={"tags": ["a"]})
        (stored,) = await store.append("default", "talk", [message])
        message.metadata.clear()
        stored.message.metadata.clear()
        (read,) = await store.read("default", "talk")
        assert read.message.metadata == {"tags": ["a"]}


class TestList:
    async def test_pages_are_newest_first_and_meet_without_gap_or_repeat(
        self, store: ConversationStore
    ) -> None:
        for number in range(7):
            await created(store, f"talk-{number}")
        names, cursor = [], None
        for size in (3, 3, 1):
            page = await store.list("default", limit=3, cursor=cursor)
            assert len(page.conversations) == size
            names += [conversation.id for conversation in page.conversations]
            cursor = page.next_cursor
        assert cursor is None
        assert names == [f"talk-{number}" for number in reversed(range(7))]

    async def test_a_full_last_page_has_no_next(self, store: ConversationStore) -> None:
        for number in range(2):
            await created(store, f"talk-{number}")
        assert (await store.list("default", limit=2)).next_cursor is None

    async def test_a_page_goes_on_after_its_last_conversation_was_deleted(
        self, store: ConversationStore
    ) -> None:
        for number in range(4):
            await created(store, f"talk-{number}")
        page = await store.list("default", limit=2)
        await store.delete("default", "talk-2")
        rest = await store.list("default", limit=2, cursor=page.next_cursor)
        assert [each.id for each in rest.conversations] == ["talk-1", "talk-0"]

    async def test_metadata_is_matched_by_equality_of_every_pair(
        self, store: ConversationStore
    ) -> None:
        for number in range(6):
            metadata = {"owner": "ada" if number % 2 else "bob", "open": number < 3}
            await store.create(Conversation(id=f"talk-{number}", metadata=metadata))
        page = await store.list("default", metadata={"owner": "ada"}, limit=2)
        assert [each.id for each in page.conversations] == ["talk-5", "talk-3"]
        rest = await store.list(
            "default", metadata={"owner": "ada"}, limit=2, cursor=page.next_cursor
        )
        assert [each.id for each in rest.conversations] == ["talk-1"]
        assert rest.next_cursor is None
        both = await store.list("default", metadata={"owner": "ada", "open": True})
        assert [each.id for each in both.conversations] == ["talk-1"]
        assert not (await store.list("default", metadata={"open": 1})).conversations


class TestDelete:
    async def test_nothing_is_left_but_a_refusal_of_late_writers(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user("hello")])
        assert await store.delete("default", "talk")
        assert not await store.delete("default", "talk")
        assert not (await store.list("default")).conversations
        with pytest.raises(ConversationNotFound):
            await store.append(
                "default", "talk", [user("late")], turn="t1", create_with=unlimited()
            )
        with pytest.raises(ConversationConflict, match="deleted"):
            await created(store)
        with pytest.raises(ConversationNotFound):
            await store.read("default", "talk")


class TestTenants:
    async def test_equal_names_of_two_tenants_share_nothing(
        self, store: ConversationStore
    ) -> None:
        for tenant in ("ada", "bob"):
            await created(store, tenant=tenant)
            stored = await store.append(
                tenant, "talk", [user(tenant, client_id="c1")], turn="t1"
            )
            assert seqs(stored) == [1]
        await store.update_metadata("ada", "talk", {"mine": True})
        assert (await store.get("bob", "talk")).metadata == {}
        for tenant in ("ada", "bob"):
            assert contents(await store.read(tenant, "talk")) == [tenant]
            _, messages = await store.read_window(tenant, "talk")
            assert contents(messages) == [tenant]
            listed = (await store.list(tenant)).conversations
            assert [each.tenant for each in listed] == [tenant]
        assert await store.delete("ada", "talk")
        assert contents(await store.read("bob", "talk")) == ["bob"]

    async def test_an_id_of_another_tenant_is_not_found_by_any_method(
        self, store: ConversationStore
    ) -> None:
        await created(store, tenant="ada")
        for act in (
            lambda: store.get("bob", "talk"),
            lambda: store.read("bob", "talk"),
            lambda: store.read_window("bob", "talk"),
            lambda: store.update_metadata("bob", "talk", {}),
            lambda: store.append("bob", "talk", [user("hello")]),
        ):
            with pytest.raises(ConversationNotFound):
                await act()
        assert not await store.delete("bob", "talk")
        assert not (await store.list("bob")).conversations


class TestTimeToLive:
    async def test_an_untouched_conversation_vanishes_with_its_messages(
        self, store: ConversationStore
    ) -> None:
        brief = ConversationConfig(ttl_seconds=0.05)
        await created(store, "kept")
        await store.append("default", "talk", [user("a")], create_with=brief)
        await eventually(store, gone="talk")
        listed = (await store.list("default")).conversations
        assert [each.id for each in listed] == ["kept"]
        await created(store)
        assert await store.read("default", "talk") == ()

    async def test_every_change_puts_the_end_off(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=ConversationConfig(ttl_seconds=0.8))
        started = asyncio.get_running_loop().time()
        number = 0
        while asyncio.get_running_loop().time() < started + 1.0:
            await store.append("default", "talk", [user(str(number))])
            await store.update_metadata("default", "talk", {"n": number})
            number += 1
            await asyncio.sleep(0.02)
        assert (await store.get("default", "talk")).last_seq == number
        await eventually(store, gone="talk")
