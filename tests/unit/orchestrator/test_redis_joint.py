"""Calls of many callers as one: who is told what becomes of it."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.redis_joint import (
    MOST_CALLS,
    Head,
    JoinableSending,
    JointSending,
    joined,
    packed_parts,
)

HEAD = Head(2, packed_parts(["FCALL", "claim"]))


def _callers(count: int) -> list[JoinableSending]:
    loop = asyncio.get_running_loop()
    return [
        JoinableSending(HEAD, [f"task-{n}"], loop.create_future()) for n in range(count)
    ]


async def test_a_failure_is_told_to_all() -> None:
    callers = _callers(3)
    JointSending(callers).fail(OSError("gone"))
    for caller in callers:
        with pytest.raises(OSError, match="gone"):
            await caller.answered


async def test_a_call_that_is_given_up_is_so_for_all() -> None:
    callers = _callers(3)
    JointSending(callers).drop()
    assert all(caller.answered.cancelled() for caller in callers)


async def test_a_call_is_wanted_as_long_as_one_caller_waits() -> None:
    callers = _callers(3)
    sending = JointSending(callers)
    callers[0].answered.cancel()
    assert not sending.is_done()
    sending.give([["a", "b", "c"]])
    assert callers[1].answered.result() == ["b"]
    assert callers[2].answered.result() == ["c"]
    assert sending.is_done()


async def test_no_more_than_so_many_are_one_call() -> None:
    sent = joined(_callers(MOST_CALLS + 1))
    assert [each.commands[0].count(b"task-") for each in sent] == [MOST_CALLS, 1]
    assert sent[1].commands[0].startswith(b"*3\r\n$5\r\nFCALL\r\n")
