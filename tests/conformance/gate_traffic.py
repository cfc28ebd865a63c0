"""Traffic before a gate whose clock a test moves: an hour of it takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from redis.asyncio import Redis

from orchestrator import redis_dues, redis_gate
from orchestrator.dues import Admitted, Dues, Entry, Needs
from orchestrator.gate import (
    Caller,
    CallOutcome,
    Departure,
    GateLimits,
    Permit,
    Wait,
)
from orchestrator.memory_gate import InMemoryGate
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_scripts import RedisScripts, Texts
from workers.llm.gatekeeper import PARK_AFTER_SECONDS

_CLOCK = "test:clock"


@dataclass
class Clock:
    """Seconds that only a test moves on."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class ClockedGate(RedisGate):
    """Asks a gate in Redis as calls do, at instants that a test sets."""

    def __init__(self, client: Redis, *, clock: Clock) -> None:
        super().__init__(client)
        self._now = clock
        self._toll = RedisToll(client)
        self._scripts = _clocked(client, redis_gate)
        self._toll._scripts = _clocked(client, redis_dues)

    async def enter(
        self, gate: str, limits: GateLimits, caller: Caller
    ) -> Permit | Wait:
        await self._set_clock()
        answer = await self._toll.admit(Needs(entry=Entry(gate, limits, caller)))
        passed = answer.permit if isinstance(answer, Admitted) else answer
        assert isinstance(passed, Permit | Wait)
        return passed

    async def withdraw(self, gate: str, caller: Caller) -> None:
        await self._set_clock()
        await self._toll.take_back(Needs(entry=Entry(gate, GateLimits(), caller)))

    async def leave(self, permit: Permit, departure: Departure) -> None:
        await self._set_clock()
        await self._toll.pay(Dues(permit, departure))

    async def _set_clock(self) -> None:
        seconds, rest = divmod(round(self._now() * 1_000_000), 1_000_000)
        await self._client.hset(_CLOCK, mapping={"s": seconds, "us": rest})


def _clocked(client: Redis, module: object) -> RedisScripts:
    def composed(name: str) -> str:
        told = f"redis.call('HMGET', '{_CLOCK}', 's', 'us')"
        return module._composed(name).replace("redis.call('TIME')", told)

    return RedisScripts(client, sources=Texts(module._SCRIPTS, composed))


Gate = ClockedGate | InMemoryGate


@dataclass
class Call:
    """One call of a run, from its first asking to its answer."""

    at: float
    """Seconds since the traffic began; other instants too."""
    tokens: int
    taken: int | None = None
    """What it really takes; all that it reserves, if None."""
    tenant: str = "a"
    priority: int = 4
    seconds: float = 1.0
    """Until its answer."""
    gone_after: float | None = None
    """Seconds after which nobody asks for it any more, without a word."""
    comes_back_late: float = 0.5
    """Seconds that a task which was parked waits for a worker."""
    number: int = 0
    passed_at: float | None = None

    @property
    def waited(self) -> float:
        assert self.passed_at is not None, f"never passed: {self}"
        return self.passed_at - self.at


@dataclass
class Traffic:
    """Calls that ask, wait in their slots, are parked, come back, pass and end."""

    gate: Gate
    clock: Clock
    limits: GateLimits
    name: str = "t"
    granted: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many tokens."""
    asked: int = 0
    now: float = 0.0
    _due: list[tuple[float, int, object]] = field(default_factory=list)
    _number: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.began = self.clock.now

    async def run(self, calls: list[Call], *, until: float) -> None:
        """Let calls come at their instants, until one."""
        for call in calls:
            call.number = next(self._number)
            self._at(call.at, ("ask", call, f"{call.number}-0", call.at))
        while self._due and self._due[0][0] <= until:
            self.now, _, (kind, *facts) = heappop(self._due)
            self.clock.now = self.began + self.now
            await getattr(self, f"_{kind}")(*facts)

    def _at(self, at: float, what: tuple[object, ...]) -> None:
        heappush(self._due, (at, next(self._number), what))

    async def _ask(self, call: Call, token: str, slot_since: float) -> None:
        now = self.now
        if call.gone_after is not None and now > call.at + call.gone_after:
            return
        self.asked += 1
        task = f"{self.name}{call.number}"
        name = f"{self.name}{token}"
        caller = Caller(name, call.tenant, task, call.priority, call.tokens)
        answer = await self.gate.enter("g", self.limits, caller)
        if isinstance(answer, Permit):
            call.passed_at = now
            self.granted.append((now, call.tokens))
            self._at(now + call.seconds, ("end", answer, call))
        elif now + answer.seconds > slot_since + PARK_AFTER_SECONDS:
            await self.gate.withdraw("g", caller)
            back = now + answer.park_seconds + call.comes_back_late
            number, _, times = token.partition("-")
            self._at(back, ("ask", call, f"{number}-{int(times) + 1}", back))
        else:
            self._at(now + answer.seconds, ("ask", call, token, slot_since))

    async def _end(self, permit: Permit, call: Call) -> None:
        left = Departure(outcome=CallOutcome.ANSWERED, tokens=call.taken)
        await self.gate.leave(permit, left)

    def most_in_a_window(self) -> int:
        """Return the most tokens that were granted in one minute."""
        most = held = first = 0
        for at, tokens in self.granted:
            held += tokens
            while self.granted[first][0] <= at - self.limits.window_seconds:
                held -= self.granted[first][1]
                first += 1
            most = max(most, held)
        return most


def steady(
    *, seconds: float, every: float, tokens: int, seed: int = 1, **facts: object
) -> list[Call]:
    """Return small calls that come one after the other, not quite evenly."""
    random, at, calls = Random(seed), 0.0, []  # noqa: S311
    while at < seconds:
        calls.append(Call(at, tokens, **facts))
        at += every * random.uniform(0.5, 1.5)
    return calls
