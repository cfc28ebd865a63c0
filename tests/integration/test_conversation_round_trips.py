"""What an append and a window cost Redis, counted by its monitor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
from redis.asyncio import Redis

from conversations import ConversationConfig, Message, Role
from conversations.redis_store import RedisConversationStore
from conversations.stored_service import StoredConversationService

TIMES = 5
HANDSHAKE = ("HELLO", "SELECT", "CLIENT")
UNLIMITED = ConversationConfig(max_messages=None, context_window=20)


def exchange(count: int) -> list[Message]:
    roles = (Role.USER, Role.ASSISTANT)
    return [Message(role=roles[n % 2], content=f"{n} said") for n in range(count)]


async def long_talk(service: StoredConversationService, length: int) -> str:
    name = f"talk-{length}"
    await service.create(conversation_id=name, config=UNLIMITED)
    for start in range(0, length, 1000):
        await service.add_messages(name, exchange(min(1000, length - start)))
    return name


async def commands_of(
    client: Redis, work: Callable[[], Awaitable[object]]
) -> tuple[int, int]:
    """How many commands were sent for some work, and how many ran inside scripts."""
    sent: list[str] = []
    await work()  # loads the script
    async with client.monitor() as monitor:
        for _ in range(TIMES):
            await work()
        await client.echo("that was all")
        while "that was all" not in (seen := await monitor.next_command())["command"]:
            if not seen["command"].startswith(HANDSHAKE):
                sent.append(seen["client_type"])
    inside = sent.count("lua")
    return len(sent) - inside, inside


async def costs(
    service: StoredConversationService, client: Redis, length: int
) -> Sequence[tuple[int, int]]:
    name = await long_talk(service, length)
    return [
        await commands_of(client, lambda: service.add_messages(name, exchange(2))),
        await commands_of(client, lambda: service.window(name)),
        await commands_of(client, lambda: service.get_messages(name, limit=20)),
        await commands_of(client, lambda: service.get_messages(name, before=50)),
    ]


@pytest.mark.timeout(60)
async def test_an_append_a_window_and_a_page_are_a_round_trip_at_any_length(
    clean_redis_url: str,
) -> None:
    async with Redis.from_url(clean_redis_url, decode_responses=True) as client:
        service = StoredConversationService(RedisConversationStore(client))
        short = await costs(service, client, 100)
        assert [sent for sent, _ in short] == [TIMES] * 4
        assert await costs(service, client, 5_000) == short


async def test_an_append_and_a_turn_read_little_more_than_they_need(
    clean_redis_url: str,
) -> None:
    async with Redis.from_url(clean_redis_url, decode_responses=True) as client:
        store = RedisConversationStore(client)
        config = ConversationConfig(max_messages=100)
        for turn in range(60):
            await store.append(
                "default", "talk", exchange(2), turn=f"t{turn}", create_with=config
            )
        async with client.monitor() as monitor:
            await store.append("default", "talk", exchange(2), turn="last")
            await store.read_turn("default", "talk", "t30")
            await client.echo("that was all")
            reads: list[str] = []
            while "that was all" not in (
                seen := (await monitor.next_command())["command"]
            ):
                if seen.startswith("XRANGE"):
                    reads.append(seen.rpartition(" ")[2])
        assert reads == ["3", "5"]
        assert (await store.get("default", "talk")).message_count == 100
