"""Any order of submits, claims, crashes, cancels, endings and deletes is whole turns.

The properties of a conversation (a), (c) and (d); (b), that every view is valid, stands
with the window's tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import (
    ConversationConfig,
    ConversationNotFound,
    ConversationStore,
    InvalidHistory,
    Message,
    Role,
    StoredMessage,
)
from conversations.closing import CLOSED
from conversations.history import check_history
from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore
from orchestrator import redis_keys
from orchestrator.errors import LeaseLost
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Creation, Ending, TaskStore, Turn
from orchestrator.task import Task, TaskFailure, TaskResult, TaskStatus, WhenBusy
from tests.fake_redis import fake_redis

TENANTS = ("ada", "bob")
TALK = "talk"
KEEPS_ALL = ConversationConfig(max_messages=None)
WORDS = (
    "claim",
    "finish",
    "fail",
    "crash",
    "take",
    "cancel",
    "release",
    "by hand",
)
EVENTS = [*WORDS, "claim", "cancel", *get_args(WhenBusy), "enqueue", "steer"] * 4
steps = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from([*EVENTS, "delete"]),
    st.integers(min_value=0, max_value=20),
)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class World:
    """One tenant's tasks on one conversation, and what may have happened to them."""

    def __init__(
        self, tenant: str, tasks: TaskStore, conversations: ConversationStore
    ) -> None:
        self.tenant = tenant
        self.tasks = tasks
        self.conversations = conversations
        self.accepted: list[Task] = []
        self.claims: dict[str, Claim] = {}
        self.finished: set[str] = set()
        self.rolled_back: set[str] = set()
        self.last: list[StoredMessage] = []

    async def do(self, word: str, number: int) -> None:
        if word in get_args(WhenBusy):
            await self.submit(word)
        elif word == "delete":
            await self.conversations.delete(self.tenant, TALK)
            self.last = []
        elif word == "by hand":
            await self.add_by_hand()
        elif self.accepted:
            await self.change(word, self.accepted[number % len(self.accepted)])
        await self.check_prefix()

    async def submit(self, rule: str) -> None:
        text = f"{self.tenant} {len(self.accepted)}"
        task = Task(
            tenant=self.tenant,
            agent_name="agent",
            conversation_id=TALK,
            when_busy=rule,
            input={"prompt": text},
        )
        (answer,) = await self.tasks.create([task])
        if isinstance(answer, Creation) and answer.created:
            if rule == "rollback":
                self.rolled_back |= {each.id for each in self.accepted}
            self.accepted.append(answer.task)

    async def add_by_hand(self) -> None:
        message = Message(role=Role.USER, content=f"{self.tenant} by hand")
        try:
            await self.conversations.append(self.tenant, TALK, [message])
        except (ConversationNotFound, InvalidHistory):
            return

    async def change(self, word: str, task: Task) -> None:
        if word == "claim":
            await self.claim(lease_seconds=60)
        elif word == "crash":
            await self.claim(lease_seconds=0.001)
            await asyncio.sleep(0.002)
            await self.tasks.sweep()
        elif word == "cancel":
            await self.tasks.cancel(self.tenant, task.id)
        else:
            for claim in list(self.claims.values()):
                await self.end(word, claim)

    async def claim(self, *, lease_seconds: float) -> None:
        for task in self.accepted:
            claimed = await self.tasks.claim(
                self.tenant,
                task.id,
                worker="w",
                serves=["agent"],
                lease_seconds=lease_seconds,
            )
            if isinstance(claimed, Claim):
                self.claims[task.id] = claimed

    async def end(self, word: str, claim: Claim) -> None:
        lease, task = claim.lease, claim.task
        try:
            if word == "take":
                await self.tasks.take_messages(lease, "messages:1:1")
                return
            if word == "release":
                await self.tasks.release(lease, running_seconds=0, reason="drain")
            else:
                ending = answered(task) if word == "finish" else FAILED
                await self.tasks.finish(lease, ending, running_seconds=0)
                if word == "finish":
                    self.finished.add(task.id)
        except LeaseLost:
            pass
        self.claims.pop(task.id, None)

    async def history(self) -> list[StoredMessage]:
        try:
            return list(await self.conversations.read(self.tenant, TALK, limit=999))
        except ConversationNotFound:
            return []

    async def check_prefix(self) -> None:
        """(c) History only grows at its end."""
        history = await self.history()
        assert history[: len(self.last)] == self.last
        self.last = history

    async def check_whole_turns(self) -> None:
        """(a) Whole turns, each once, in the order of acceptance."""
        history = await self.history()
        check_history([stored.message for stored in history])
        turns: list[tuple[str, list[Message]]] = []
        for stored in history:
            if stored.turn is None:
                continue
            if not turns or turns[-1][0] != stored.turn:
                turns.append((stored.turn, []))
            turns[-1][1].append(stored.message)
        ids = [turn for turn, _ in turns]
        assert len(ids) == len(set(ids))
        # A message that was to steer, but was superseded, is a turn of its own.
        known = [task.id for task in self.accepted]
        order = [each for each in known if each in ids]
        assert [each for each in ids if each in known] == order
        for turn, messages in turns:
            assert messages[0].role is Role.USER
            assert messages[-1].role is Role.ASSISTANT
            closed = CLOSED in messages[-1].metadata
            assert closed == (turn not in self.finished)
        # (d) Another tenant's words are never here.
        assert all(
            stored.message.content.startswith((self.tenant, "done", "["))
            for stored in history
        )


FAILED = Ending(
    status=TaskStatus.FAILED, failure=TaskFailure(code="boom", message="It broke.")
)


def answered(task: Task) -> Ending:
    question = Message(role=Role.USER, content=str(task.input["prompt"]))
    messages = (question, Message(role=Role.ASSISTANT, content="done"))
    return Ending(
        status=TaskStatus.COMPLETED,
        result=TaskResult(task_id=task.id, content="done"),
        turn=Turn(messages=messages, config=KEEPS_ALL),
    )


async def play(script: Sequence[tuple[str, str, int]], kind: str) -> None:
    conversations: ConversationStore
    tasks: TaskStore
    client = fake_redis()
    if kind == "memory":
        conversations = InMemoryConversationStore()
        tasks = InMemoryTaskStore(
            conversations=conversations, conversation_config=KEEPS_ALL, max_crashes=2
        )
    else:
        conversations = RedisConversationStore(client, awaited_key=redis_keys.turns)
        tasks = RedisTaskStore(client, conversation_config=KEEPS_ALL, max_crashes=2)
    worlds = {tenant: World(tenant, tasks, conversations) for tenant in TENANTS}
    for tenant, word, number in script:
        before = await worlds[other(tenant)].history()
        await worlds[tenant].do(word, number)
        if word != "crash":  # a sweep is for all tenants
            assert await worlds[other(tenant)].history() == before
    for world in worlds.values():
        for _ in world.accepted:
            await world.do("claim", 0)
            await world.do("finish", 0)
        await world.check_whole_turns()
    await client.aclose()


def other(tenant: str) -> str:
    return TENANTS[1 - TENANTS.index(tenant)]


@pytest.mark.parametrize(("kind", "examples"), [("memory", 100), ("fakeredis", 15)])
@pytest.mark.timeout(180)
def test_any_order_of_events_leaves_whole_turns_in_order(
    kind: str, examples: int
) -> None:
    @settings(patient, max_examples=examples)
    @given(st.lists(steps, min_size=8, max_size=30))
    def check(script: list[tuple[str, str, int]]) -> None:
        asyncio.run(play(script, kind))

    check()
