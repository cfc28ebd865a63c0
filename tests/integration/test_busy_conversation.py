"""Many submits at once on one conversation, under each rule, with real workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import get_args

import pytest

from conversations import ConversationBusy, ConversationNotFound, Role, StoredMessage
from conversations.closing import CLOSED
from conversations.history import check_history
from orchestrator import AsyncOrchestrator
from orchestrator.errors import TaskEndedWithoutResult
from orchestrator.store import TaskFilter
from orchestrator.task import Task, WhenBusy
from orchestrator.task_handle import AsyncTaskHandle
from tests.stand import Stand
from workers.llm.double import Double
from workers.llm.double_script import HttpReply

SECONDS = 240


def reply(body: dict[str, object]) -> HttpReply:
    """An answer that takes its time, so that others come meanwhile."""
    return HttpReply(text="Done.", delay_seconds=0.03)


async def history(celeriac: AsyncOrchestrator, name: str) -> tuple[StoredMessage, ...]:
    with suppress(ConversationNotFound):
        return await celeriac.conversations.get_messages(name, limit=1000)
    return ()


def check_turns(stored: Sequence[StoredMessage]) -> list[str]:
    """Check that turns stand whole and alone; return their ids in order."""
    check_history([each.message for each in stored])
    assert [each.seq for each in stored] == list(range(1, len(stored) + 1))
    turns: list[list[StoredMessage]] = []
    for each in stored:
        if not turns or turns[-1][0].turn != each.turn:
            turns.append([])
        turns[-1].append(each)
    for turn in turns:
        assert turn[0].message.role is Role.USER
        assert turn[-1].message.role is Role.ASSISTANT
    ids = [str(turn[0].turn) for turn in turns]
    assert len(ids) == len(set(ids))
    return ids


@asynccontextmanager
async def watched(celeriac: AsyncOrchestrator, name: str) -> AsyncIterator[None]:
    """Read the history again and again: always whole turns, growing at its end."""

    async def watch() -> None:
        seen: tuple[StoredMessage, ...] = ()
        while True:
            now = await history(celeriac, name)
            check_turns(now)
            assert now[: len(seen)] == seen
            seen = now
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def ended(handle: AsyncTaskHandle) -> None:
    with suppress(TaskEndedWithoutResult):
        await handle.result(timeout=SECONDS)


async def all_ended(celeriac: AsyncOrchestrator, name: str) -> Sequence[Task]:
    """The tasks of a conversation, newest first; a message that was to steer a run
    which ended before it is a task that no handle names."""
    while True:
        page = await celeriac.list(TaskFilter(conversation_id=name), limit=200)
        open_ones = [task.id for task in page.tasks if not task.status.is_terminal]
        if not open_ones:
            return page.tasks
        await ended(await celeriac.handle(open_ones[-1]))


async def talk(celeriac: AsyncOrchestrator, rule: WhenBusy, submits: int) -> None:
    """Submit many tasks at once on one conversation; check what became of them."""

    async def submit(number: int) -> AsyncTaskHandle | None:
        with suppress(ConversationBusy):
            return await celeriac.submit(
                "assistant",
                {"prompt": f"question {number}"},
                conversation_id=rule,
                when_busy=rule,
            )
        return None

    async with watched(celeriac, rule):
        answers = await asyncio.gather(*map(submit, range(submits)))
        handles = {each.id: each for each in answers if each is not None}
        for handle in handles.values():
            await ended(handle)
        accepted = await all_ended(celeriac, rule)
        stored = await history(celeriac, rule)
    ends = {task.id: str(task.status) for task in accepted}
    assert set(handles) <= set(ends)
    check_rule(rule, submits, ends, stored)
    turns = check_turns(stored)
    assert turns == [task.id for task in reversed(accepted) if task.id in turns]


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("submits", [15, 100])
async def test_many_submits_at_once_leave_whole_turns_under_each_rule(
    stand: Stand, submits: int
) -> None:
    async with Double(reply) as double:
        stand.llm_url = double.url
        for _ in range(2):
            await asyncio.to_thread(stand.start_worker)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            for rule in get_args(WhenBusy):
                await talk(celeriac, rule, submits)


def check_rule(
    rule: str, submits: int, ends: dict[str, str], stored: Sequence[StoredMessage]
) -> None:
    turns = check_turns(stored)
    closed = {each.turn for each in stored if CLOSED in each.message.metadata}
    asked = Counter(
        each.message.content for each in stored if each.message.role is Role.USER
    )
    assert set(asked.values()) <= {1}
    completed = {id_ for id_, end in ends.items() if end == "completed"}
    if rule in ("enqueue", "reject"):
        assert completed == set(ends) == set(turns)
        assert not closed
        assert len(ends) == submits if rule == "enqueue" else len(ends) >= 1
    elif rule == "interrupt":
        assert set(turns) == set(ends)
        assert closed == set(ends) - completed
        assert len(asked) == submits
        assert turns[-1] in completed
    elif rule == "rollback":
        assert not closed
        assert set(turns) <= completed
        assert turns
    else:
        assert len(asked) == submits
        assert set(turns) <= completed
