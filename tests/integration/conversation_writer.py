"""A process that lets some writers add their messages, safe to be killed and run again.

Arguments: Redis URL, first writer, number of writers, messages of each.
"""

from __future__ import annotations

import asyncio
import sys

from redis.asyncio import Redis

from conversations import Message, Role
from conversations.redis_store import RedisConversationStore
from conversations.stored_service import StoredConversationService


async def main(url: str, first: int, writers: int, messages: int) -> None:
    client = Redis.from_url(url, decode_responses=True)
    service = StoredConversationService(RedisConversationStore(client))

    async def write(writer: int) -> None:
        for number in range(messages):
            name = f"w{writer}-{number}"
            message = Message(role=Role.USER, content=name, client_id=name)
            await service.add_message("shared", message)

    await asyncio.gather(*(write(writer) for writer in range(first, first + writers)))
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
