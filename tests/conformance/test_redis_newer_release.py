"""What a newer release has written is read by this one without what it added."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from conversations.conversation import Conversation
from conversations.message import Message, Role
from conversations.redis_store import RedisConversationStore
from orchestrator import redis_keys
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_store import RedisTaskStore
from tests.conformance.task_steps import claim, submitted, worker

HEAD = "celeriac:default:conversation:talk"


def with_more(text: str, *path: str) -> str:
    read = json.loads(text)
    place = read
    for name in path:
        place = place[name]
    place["colour"] = "red"
    return json.dumps(read)


@pytest.mark.parametrize("path", [(), ("budget",), ("retry",)])
async def test_an_agent_is_known_although_its_config_has_more_fields(
    client: Redis, path: tuple[str, ...]
) -> None:
    directory = RedisAgentDirectory(client)
    await directory.announce(worker("a"), ttl_seconds=30)
    (expected,) = await directory.agents()
    announced = await client.hget(redis_keys.AGENTS, "a")
    await client.hset(redis_keys.AGENTS, "a", with_more(announced, *path))
    key = redis_keys.worker(worker().id)
    seen, _, text = (await client.get(key)).partition(" ")
    read = json.loads(text)
    read["agents"] = [json.loads(with_more(json.dumps(read["agents"][0]), *path))]
    await client.set(key, f"{seen} {with_more(json.dumps(read))}")
    assert await directory.agents() == (expected,)
    assert await directory.find("a") == expected
    (live,) = await directory.workers()
    assert live.served == ("a",)


async def test_a_conversation_is_read_although_its_config_has_more_fields(
    client: Redis,
) -> None:
    conversations = RedisConversationStore(client)
    made = await conversations.create(Conversation(id="talk"))
    await conversations.append(
        "default", "talk", [Message(role=Role.USER, content="a")]
    )
    await client.hset(HEAD, "config", with_more(made.config.model_dump_json()))
    assert (await conversations.get("default", "talk")).config == made.config
    (listed,) = (await conversations.list("default")).conversations
    assert listed.config == made.config
    tasks = RedisTaskStore(client)
    claimed = await claim(tasks, await submitted(tasks, conversation_id="talk"))
    assert claimed.window is not None
    head, messages = claimed.window
    assert head.config == made.config
    assert [each.message.content for each in messages] == ["a"]
