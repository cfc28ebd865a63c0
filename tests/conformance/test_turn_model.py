"""Both stores do with turns what the model says, after every step of any script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import ConversationConfig, ConversationNotFound, Message, Role
from conversations.history import check_history
from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore
from conversations.store import ConversationStore
from orchestrator.journal import Step, StepKind, Unfinished
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Creation, Ending, Lease, TaskStore, Turn
from orchestrator.task import Task, TaskResult, TaskStatus, WhenBusy
from tests.conformance.task_steps import AGENT, failed
from tests.conformance.turn_model import ModelTalk, ModelTurn
from tests.fake_redis import fake_redis

TALK = "talk"
KEEPS_ALL = ConversationConfig(max_messages=None)
RULES = get_args(WhenBusy)
ENDS = ("finish", "fail", "release", "cancel", "interrupt", "rollback")
DURING = ("saying", "saying", "say", "take", "steer", "enqueue", "cancel")
Event = tuple[str, int]
numbers = st.integers(min_value=0, max_value=7)


def events(*words: str) -> st.SearchStrategy[Event]:
    return st.tuples(st.sampled_from(words), numbers)


alone = events(*RULES, *DURING, *ENDS, "claim", "crash").map(lambda event: [event])
# A turn that begins, speaks and is spoken to before it ends.
run = st.tuples(
    events("enqueue", "steer", "interrupt"),
    events("claim"),
    st.lists(events(*DURING), max_size=5),
    events(*ENDS),
).map(lambda parts: [parts[0], parts[1], *parts[2], parts[3]])
scripts = st.lists(run | alone, min_size=3, max_size=12).map(
    lambda parts: [event for part in parts for event in part]
)


@dataclass
class Accepted:
    """A task and the turn that it is in the model."""

    task_id: str
    turn: ModelTurn


class Talk:
    """A conversation on a store, beside its model."""

    def __init__(self, tasks: TaskStore, conversations: ConversationStore) -> None:
        self._tasks = tasks
        self._conversations = conversations
        self._model = ModelTalk()
        self._accepted: list[Accepted] = []
        self._lease: Lease | None = None
        self._count = 0

    async def do(self, word: str, number: int) -> None:
        self._count += 1
        if word in RULES:
            await self._submit(word)
        elif word == "claim":
            await self._claim(lease_seconds=600)
        elif word == "crash":
            await self._crash()
        elif word == "cancel" and self._accepted:
            await self._cancel(self._accepted[number % len(self._accepted)])
        elif (turn := self._model.running) is not None:
            await self._change(word, turn)
        await self._check()

    async def _submit(self, rule: WhenBusy) -> None:
        question = f"question {self._count}"
        task = Task(
            agent_name=AGENT,
            conversation_id=TALK,
            when_busy=rule,
            input={"prompt": question},
        )
        turn = self._model.submit(rule, question)
        (answer,) = await self._tasks.create([task])
        assert isinstance(answer, Creation) == (turn is not None)
        if turn is not None:
            self._accepted.append(Accepted(task.id, turn))

    async def _claim(self, *, lease_seconds: float) -> None:
        turn, claims = self._model.claim(), []
        for accepted in self._accepted:
            if accepted.turn.status not in ("pending", "running"):
                continue
            claimed = await self._tasks.claim(
                "default",
                accepted.task_id,
                worker=f"w{self._count}",
                serves=[AGENT],
                lease_seconds=lease_seconds,
            )
            if isinstance(claimed, Claim):
                claims.append(accepted.turn)
                self._lease = claimed.lease
        assert claims == ([turn] if turn else [])

    async def _crash(self) -> None:
        if self._model.running or not self._model.unfinished:
            return
        await self._claim(lease_seconds=0.001)
        turn = self._model.running
        assert turn is not None
        await asyncio.sleep(0.003)
        await self._tasks.sweep()
        self._model.give_back(turn)
        self._lease = None

    async def _cancel(self, accepted: Accepted) -> None:
        if accepted.turn.status == "joined":
            return  # its id names the run that it joined
        self._model.cancel(accepted.turn)
        await self._tasks.cancel("default", accepted.task_id)

    async def _change(self, word: str, turn: ModelTurn) -> None:
        assert self._lease is not None
        lease, text = self._lease, f"{word} {self._count}"
        key = f"completion:{len(turn.said) + 1}"
        if word == "saying":
            unfinished = Unfinished(key, text)
            await self._tasks.append_events(lease, [], unfinished=unfinished)
            turn.saying = text
        elif word == "say":
            step = Step(key=key, kind=StepKind.COMPLETION, said=text, outcome={})
            await self._tasks.record_step(lease, step)
            self._model.say(turn, text)
        elif word == "take":
            taken = await self._tasks.take_messages(lease, f"messages:{self._count}:1")
            outcome = taken.outcome if taken else []
            texts = [Message.model_validate(each).content for each in outcome]
            assert texts == self._model.take(turn)
        else:
            await self._end(word, turn, lease)

    async def _end(self, word: str, turn: ModelTurn, lease: Lease) -> None:
        self._lease = None
        if word == "release":
            await self._tasks.release(lease, running_seconds=0, reason="drain")
            self._model.give_back(turn)
            return
        ending, answer = failed(), f"answer {self._count}"
        if word == "finish":
            ending = answered(lease, turn, answer)
            self._model.finish(turn, answer)
        else:
            self._model.end(turn, "failed")
        await self._tasks.finish(lease, ending, running_seconds=0)

    async def _check(self) -> None:
        try:
            stored = await self._conversations.read("default", TALK, limit=999)
        except ConversationNotFound:
            stored = ()
        messages = [each.message for each in stored]
        assert [(m.role.value, m.content) for m in messages] == self._model.history
        check_history(messages)
        for accepted in self._accepted:
            if accepted.turn.status != "joined":
                await self._check_status(accepted)

    async def _check_status(self, accepted: Accepted) -> None:
        steers = any(accepted.turn in each.turn.inbox for each in self._accepted)
        if steers:
            return  # until it is taken or too late, its id names the run
        task = await self._tasks.get("default", accepted.task_id)
        assert task.status.value == accepted.turn.status
        assert task.attempt == accepted.turn.attempts


def answered(lease: Lease, turn: ModelTurn, answer: str) -> Ending:
    questions = (turn.question, *turn.steered)
    asked = [Message(role=Role.USER, content=text) for text in questions]
    messages = (*asked, Message(role=Role.ASSISTANT, content=answer))
    return Ending(
        status=TaskStatus.COMPLETED,
        result=TaskResult(task_id=lease.task_id, content=answer),
        turn=Turn(messages=messages, config=KEEPS_ALL),
    )


async def play(script: Sequence[Event], kind: str) -> None:
    options = {"conversation_config": KEEPS_ALL, "max_crashes": 100}
    if kind == "memory":
        conversations = InMemoryConversationStore()
        tasks = InMemoryTaskStore(conversations=conversations, **options)
        talk = Talk(tasks, conversations)
        for word, number in script:
            await talk.do(word, number)
        return
    async with fake_redis() as client:
        talk = Talk(RedisTaskStore(client, **options), RedisConversationStore(client))
        for word, number in script:
            await talk.do(word, number)


@pytest.mark.parametrize(("kind", "examples"), [("memory", 150), ("fakeredis", 25)])
@pytest.mark.timeout(180)
def test_turns_are_what_the_model_says(kind: str, examples: int) -> None:
    @settings(
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(scripts)
    def check(script: list[Event]) -> None:
        asyncio.run(play(script, kind))

    check()
