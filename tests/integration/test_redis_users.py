"""The Redis user of docs/deployment.md: its rights are enough, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.integration.test_http_processes import start_replica
from tests.stand import Stand
from workers.llm.double import Double

PAGE = Path(__file__).parents[2] / "docs/deployment.md"
USERS = {
    name: rules.split()
    for name, rules in re.findall(
        r"^ACL SETUSER (\w+) on >\S+ (.*)$", PAGE.read_text(), re.M
    )
}
FORBIDDEN = (
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["KEYS", "*"],
    ["CONFIG", "SET", "maxmemory", "1"],
    ["DEBUG", "SLEEP", "0"],
    ["MODULE", "LIST"],
    ["SHUTDOWN", "NOSAVE"],
    ["REPLICAOF", "NO", "ONE"],
    ["ACL", "LIST"],
    ["MONITOR"],
    ["SAVE"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["SET", "others:key", "x"],
    ["GET", "others:key"],
    ["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "others:key"],
    ["EVAL", "return redis.call('FLUSHALL')", "0"],
)


@pytest.fixture
def users(stand: Stand) -> Iterator[dict[str, str]]:
    """The URL of each user of the page."""
    with redis.Redis.from_url(stand.redis_url) as owner:
        owner.set("others:key", "theirs")
        for name, rules in USERS.items():
            owner.execute_command("ACL", "SETUSER", name, "on", ">secret", *rules)
        yield {
            name: stand.redis_url.replace("://", f"://{name}:secret@", 1)
            for name in USERS
        }
        for name in USERS:
            owner.execute_command("ACL", "DELUSER", name)


def test_the_page_names_a_user() -> None:
    assert set(USERS) == {"celeriac"}


def test_the_user_may_not_do_what_nothing_here_needs(users: dict[str, str]) -> None:
    with redis.Redis.from_url(users["celeriac"]) as client:
        for command in FORBIDDEN:
            with pytest.raises(redis.exceptions.ResponseError) as refused:
                client.execute_command(*command)
            text = str(refused.value).lower()
            words = "perm", "acl", "not allowed", "can't run"
            assert any(word in text for word in words), command


@pytest.mark.timeout(120)
async def test_the_whole_system_runs_with_the_users_rights(
    stand: Stand, users: dict[str, str]
) -> None:
    owner, stand.redis_url = stand.redis_url, users["celeriac"]
    with redis.Redis.from_url(owner) as client:
        client.execute_command("ACL", "LOG", "RESET")
    try:
        async with Double(lambda _: "fine") as double:
            stand.llm_url = double.url
            worker = await asyncio.to_thread(stand.start_worker)
            replica = await asyncio.to_thread(start_replica, stand, "acl")
            try:
                async with httpx.AsyncClient(
                    base_url=replica.url, timeout=15
                ) as client:
                    asked = {"model": "assistant", "input": "hi"}
                    answer = await client.post("/v1/responses", json=asked)
                    assert answer.json()["status"] == "completed", answer.text
                    ready = await client.get("/readyz")
                    assert ready.status_code == 200, ready.text
                    for path in ("/status", "/metrics", "/", "/ui/agents"):
                        assert (await client.get(path)).status_code == 200, path
            finally:
                replica.stop()
            await asyncio.to_thread(worker.stop)
    finally:
        stand.redis_url = owner
    with redis.Redis.from_url(owner) as client:
        assert client.execute_command("ACL", "LOG") == []
