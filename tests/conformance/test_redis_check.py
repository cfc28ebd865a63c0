"""What is told of a server that does not tell everything of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore


@pytest.fixture
async def silent(client: Redis, clean_redis_url: str) -> AsyncIterator[Redis]:
    """A client whose user may not ask for anything about the server."""
    rights = ["on", ">x", "+@all", "-@admin", "-@dangerous", "~*", "&*"]
    await client.execute_command("ACL", "SETUSER", "silent", *rights)
    silent = connect(clean_redis_url.replace("://", "://silent:x@", 1))
    yield silent
    await silent.aclose()
    await client.execute_command("ACL", "DELUSER", "silent")


async def test_the_durability_of_a_server_that_says_nothing_is_unknown(
    silent: Redis,
) -> None:
    report = await RedisTaskStore(silent).check()
    assert report["durability"] == "unknown"
    for words in ("INFO", "+info", "CONFIG GET", "+config|get", "appendonly yes"):
        assert words in report["warnings"]


@pytest.mark.parametrize(("right", "durability"), [("+info", "none"), ("-info", "")])
async def test_one_answer_tells_whether_there_is_an_append_only_file(
    client: Redis, silent: Redis, right: str, durability: str
) -> None:
    await client.execute_command("ACL", "SETUSER", "silent", right, "+config|get")
    if not durability:
        await client.config_set("appendonly", "yes")
    try:
        report = await RedisTaskStore(silent).check()
    finally:
        await client.config_set("appendonly", "no")
    assert report["durability"] == (durability or "process")
