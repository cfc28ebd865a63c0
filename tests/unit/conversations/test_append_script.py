"""The append as others compose it into scripts of their own."""

from __future__ import annotations

import subprocess
import sys

import fakeredis
import pytest

from conversations import ConversationConfig, ConversationNotFound
from conversations.append_script import (
    APPEND_FUNCTIONS,
    append_arguments,
    append_error,
    append_keys,
)
from conversations.json_value import NotStorable
from conversations.redis_store import RedisConversationStore
from tests.unit.conversations.histories import answer, calls, result, user

HOST_SCRIPT = """
local keys, argv = {}, {}
for i = 2, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 2, #ARGV do argv[#argv + 1] = ARGV[i] end
local plan = conversation_append_plan(keys, argv)
if plan.refused then return plan.refused[1] end
redis.call('SET', KEYS[1], ARGV[1])
conversation_append_write(keys, argv, plan, 1700000000123)
return 'ok'
"""


async def test_another_script_ends_its_task_and_the_turn_together() -> None:
    async with fakeredis.FakeAsyncRedis(decode_responses=True) as client:
        host = client.register_script(APPEND_FUNCTIONS + HOST_SCRIPT)
        store = RedisConversationStore(client)
        turn = [user("q"), calls("1"), result("1"), answer("a")]

        async def end(name: str, **options: object) -> str:
            outcome: str = await host(
                keys=["host", *append_keys("default", name)],
                args=["ended", *append_arguments(turn, turn="task-1", **options)],
            )
            return outcome

        assert await end("talk") == "not_found"
        assert await client.get("host") is None
        config = ConversationConfig()
        assert await end("talk", create_with=config) == "ok"
        assert await end("talk", create_with=config) == "ok"
        log = await store.read("default", "talk")
        assert [stored.message for stored in log] == turn
        assert {stored.turn for stored in log} == {"task-1"}
        assert log[0].created_at.microsecond == 123_000
        await store.delete("default", "talk")
        assert await end("talk", create_with=config) == "deleted"


def test_every_refusal_has_its_error() -> None:
    assert isinstance(append_error("deleted", "talk"), ConversationNotFound)
    assert isinstance(append_error("not_found", "talk"), ConversationNotFound)
    conflict = append_error("conflict", "talk", expected_last_seq=3)
    assert "expected_last_seq 3" in str(conflict)


@pytest.mark.parametrize("name", ["", "a:b", "*", "é", "x" * 65])
def test_what_is_no_identifier_stands_in_no_key(name: str) -> None:
    with pytest.raises(NotStorable):
        append_keys("default", name)
    with pytest.raises(NotStorable):
        append_keys(name, "talk")


def test_hand_added_messages_carry_a_mark_for_commands_that_are_sent_twice() -> None:
    first, second = (append_arguments([user()], turn=None) for _ in range(2))
    assert first != second
    assert append_arguments([user()], turn="t") == append_arguments([user()], turn="t")


def test_the_room_loads_no_redis_client() -> None:
    code = (
        "import sys, conversations, conversations.append_script,"
        " conversations.memory_store; sys.exit('redis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
