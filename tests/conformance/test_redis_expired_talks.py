"""Many conversations that have expired: a listing forgets them in pieces."""

from __future__ import annotations

from redis.asyncio import Redis

from conversations.append_script import index_key
from conversations.conversation import Conversation, ConversationConfig
from conversations.redis_store import RedisConversationStore

EXPIRED = 1200


async def test_a_listing_forgets_many_that_have_expired_in_pieces(
    client: Redis,
) -> None:
    """In one call ten thousand would hold Redis for 40 ms."""
    store = RedisConversationStore(client)
    for name in ("oldest", "newest"):
        await store.create(Conversation(id=name, config=ConversationConfig()))
    (oldest,) = await client.zrange(index_key("default"), 0, 0, withscores=True)
    places = {f"expired-{n}": oldest[1] - EXPIRED + n for n in range(EXPIRED)}
    await client.zadd(index_key("default"), places)
    await client.config_resetstat()
    page = await store.list("default", limit=10)
    assert [each.id for each in page.conversations] == ["newest", "oldest"]
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls >= 3
    assert await client.zcard(index_key("default")) == 2
