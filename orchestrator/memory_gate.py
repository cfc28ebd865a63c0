"""The gate of one process: the same rules as `redis_gate`, without Redis."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from orchestrator.gate import (
    FAILURES_TO_OPEN,
    FIRST_COOL_DOWN_SECONDS,
    FORGET_SECONDS,
    LEASE_SECONDS,
    LONGEST_COOL_DOWN_SECONDS,
    LONGEST_WAIT_SECONDS,
    MOST_OWED,
    MOST_SHARES,
    PLACE_SECONDS,
    PROBE_SECONDS,
    ROOM_SECONDS,
    ROOM_WINDOWS,
    WAITER_SECONDS,
    WINDOW_PARTS,
    Caller,
    CallOutcome,
    Departure,
    GateLimits,
    GateState,
    Permit,
    Wait,
    WaitReason,
    park_seconds,
)

_Task = tuple[str, str]


@dataclass
class _Window:
    """What was let through, by part of the window."""

    requests: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def forget_before(self, part: int) -> None:
        for counts in (self.requests, self.tokens):
            for old in [each for each in counts if each < part]:
                del counts[old]

    def room_at(self, wanted: int, most: float, part: int) -> tuple[int, float]:
        """Return in which part so many tokens fit, and how many more do then."""
        left = self.tokens.total()
        for old in sorted(self.tokens):
            if left == 0 or left + wanted <= most:
                break
            left -= self.tokens[old]
            part = old + WINDOW_PARTS + 1
        return part, most - wanted - left


@dataclass
class _Owed:
    """Room in the window that a call which waits is owed; see lua/gate_room.lua."""

    task: _Task
    order: tuple[int, float]
    since: float
    tokens: int = 0
    left: float = 0.0
    """How many tokens others may still take without keeping it from that."""
    until: float = inf
    """When it is believed in no longer."""

    def is_kept(self, now: float, length: float) -> bool:
        """Whether it is kept free; a part of the window is so long."""
        kept = ROOM_WINDOWS * max((WINDOW_PARTS + 1) * length, ROOM_SECONDS)
        return (now - self.since) // kept % 2 == 0


@dataclass
class _Gate:
    permits: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, tuple[int, float, str]] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    places: dict[_Task, tuple[float, float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    window: _Window = field(default_factory=_Window)
    owed: list[_Owed] = field(default_factory=list)
    """In order."""
    reached: float = 0.0
    cool_until: float = 0.0
    step: float = FIRST_COOL_DOWN_SECONDS
    failures: int = 0
    probe_at: float = 0.0
    trouble_since: float | None = None
    trouble_at: float = 0.0

    def forget(self, now: float) -> None:
        for token in [t for t, until in self.permits.items() if until <= now]:
            del self.permits[token]
        for token in [t for t, until in self.seen.items() if until <= now]:
            self.drop(token)
        for task in [t for t, (_, until) in self.places.items() if until <= now]:
            del self.places[task]
        self.owed = [owed for owed in self.owed if owed.until > now]

    def drop(self, token: str) -> None:
        self.seen.pop(token, None)
        self.waiting.pop(token, None)

    def closed(self, now: float) -> tuple[WaitReason, float] | None:
        if self.cool_until > now:
            return "cool_down", self.cool_until - now
        if self.failures >= FAILURES_TO_OPEN:
            return "unavailable", max(0.0, self.probe_at - now)
        return None

    def trouble_for(self, now: float) -> float | None:
        if self.trouble_since is None or now - self.trouble_at > FORGET_SECONDS:
            return None
        return now - self.trouble_since

    def calm(self, trouble_since: float | None) -> None:
        """Forget earlier trouble; the new one, if there is one, begins now."""
        self.failures, self.trouble_since = 0, trouble_since
        self.step = FIRST_COOL_DOWN_SECONDS

    def refused(self, now: float) -> float:
        """Return the wait after a refusal that names none; the next one is longer."""
        step = self.step
        if now >= self.cool_until:
            self.step = min(step * 2, LONGEST_COOL_DOWN_SECONDS)
        return step

    def place_of(self, caller: Caller, now: float) -> float:
        """Start-time fair queueing, as in lua/gate_enter.lua."""
        task = (caller.tenant, caller.task_id)
        place, _ = self.places.get(task, (None, 0.0))
        if place is None:
            if len(self.shares) >= MOST_SHARES:
                self._forget_shares()
            place = max(self.reached, self.shares.get(caller.tenant, 0.0))
            self.shares[caller.tenant] = place + 1
        self.places[task] = (place, now + PLACE_SECONDS)
        return place

    def _forget_shares(self) -> None:
        """Forget those that make no difference; if too many do, all are equal again."""
        self.shares = {t: at for t, at in self.shares.items() if at > self.reached}
        if len(self.shares) > MOST_SHARES / 2:
            self.reached = max(self.shares.values())
            self.shares.clear()

    def obstacle(
        self, limits: GateLimits, caller: Caller, now: float
    ) -> tuple[WaitReason, float] | None:
        """Why the caller may not pass now, and for how long."""
        rank = sorted(self.waiting, key=self.waiting.__getitem__).index(caller.token)
        found = self.closed(now)
        if found == ("unavailable", 0.0) and rank == 0:
            self.probe_at = now + PROBE_SECONDS
            return None
        return found or self._fullness(limits, caller, now, rank)

    def _fullness(
        self, limits: GateLimits, caller: Caller, now: float, rank: int
    ) -> tuple[WaitReason, float] | None:
        length = limits.window_seconds / WINDOW_PARTS
        part = int(now / length)
        self.window.forget_before(part - WINDOW_PARTS)
        tokens = self.window.tokens.total()
        left = _left(limits.requests, self.window.requests.total())
        free = _left(limits.in_flight, len(self.permits))
        oldest = min(self.window.requests, default=part)
        leaves = (oldest + WINDOW_PARTS + 1) * length - now
        if left <= 0:
            return "requests", leaves
        before, room = 0, _left(limits.tokens, tokens)
        fits = not tokens or caller.tokens <= room
        for owed in self._owed_before(caller):
            if not owed.is_kept(now, length):
                continue
            before += owed.tokens
            fits = fits and caller.tokens <= max(owed.left, room - before)
        if not fits:
            most = _left(limits.tokens, 0)
            fits_in, more = self.window.room_at(before + caller.tokens, most, part)
            self._owe(caller, now, left=more)
            seconds = fits_in * length - now
            return "tokens", min(seconds if seconds > 0 else length, ROOM_SECONDS)
        if rank >= min(free, left):
            return "in_flight", min(1.0, 0.02 * (1 + max(0.0, rank - max(free, 0))))
        return None

    def owed_to(self, task: _Task) -> _Owed | None:
        return next((owed for owed in self.owed if owed.task == task), None)

    def _owed_before(self, caller: Caller) -> list[_Owed]:
        """Return what is owed to those who come before the caller."""
        own = self.owed_to((caller.tenant, caller.task_id))
        if own is not None:
            return self.owed[: self.owed.index(own)]
        order = self.waiting[caller.token][:2]
        return [owed for owed in self.owed if owed.order <= order]

    def _owe(self, caller: Caller, now: float, *, left: float) -> None:
        """Owe room to the caller: the smallest but the first is owed none any more."""
        task, order = (caller.tenant, caller.task_id), self.waiting[caller.token][:2]
        own = self.owed_to(task)
        if own is None:
            own = _Owed(task, order, now)
            self.owed.append(own)
            self.owed.sort(key=lambda each: each.order)
        own.tokens, own.left = caller.tokens, left
        if len(self.owed) > MOST_OWED:
            last = min(reversed(self.owed[1:]), key=lambda each: each.tokens)
            self.owed.remove(last)


class InMemoryGate:
    """Gates of one process, all on one event loop."""

    def __init__(
        self,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._lease = lease_seconds
        self._now = clock
        self._gates: defaultdict[str, _Gate] = defaultdict(_Gate)
        self._listeners: set[Callable[[str], None]] = set()

    async def enter(
        self, gate: str, limits: GateLimits, caller: Caller
    ) -> Permit | Wait:
        """Take a permit, or a place among those who wait."""
        now, found = self._now(), self._gates[gate]
        task = (caller.tenant, caller.task_id)
        length = limits.window_seconds / WINDOW_PARTS
        found.forget(now)
        ends = found.permits.get(caller.token, now + self._lease)
        part = int((ends - self._lease) / length)  # in which it was granted
        permit = Permit(gate, caller.token, part, caller.tokens)
        if caller.token in found.permits:
            return permit
        place = found.place_of(caller, now)
        found.waiting[caller.token] = (-caller.priority, place, caller.token)
        obstacle = found.obstacle(limits, caller, now)
        owed = found.owed_to(task)
        if obstacle is not None:
            reason, seconds = obstacle
            seconds = max(0.02, seconds)
            found.seen[caller.token] = now + seconds + WAITER_SECONDS
            waiters = len(found.places)
            if owed is not None:
                owed.until = now + seconds + ROOM_SECONDS
                waiters = 0  # it comes back in time, whoever else does
            return Wait(
                seconds=seconds,
                reason=reason,
                park_seconds=park_seconds(seconds, waiters=waiters),
                closed_seconds=found.trouble_for(now) or 0.0,
            )
        found.drop(caller.token)
        found.places.pop(task, None)
        found.owed = [other for other in found.owed if other is not owed]
        for other in found.owed:
            other.left -= caller.tokens
        found.permits[caller.token] = now + self._lease
        found.reached = max(found.reached, place)
        found.window.requests[part] += 1
        found.window.tokens[part] += caller.tokens
        return permit

    async def leave(self, permit: Permit, departure: Departure) -> None:
        found = self._gates[permit.gate]
        if found.permits.pop(permit.token, None) is None:
            return
        if departure.tokens is not None and permit.part in found.window.tokens:
            found.window.tokens[permit.part] += departure.tokens - permit.tokens
        self._left(found, departure)

    async def report(self, gate: str, departure: Departure) -> None:
        self._left(self._gates[gate], departure)

    async def listen(self, told: Callable[[str], None]) -> None:
        self._listeners.add(told)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._listeners.discard(told)

    def _left(self, found: _Gate, departure: Departure) -> None:
        _note(found, departure, self._now())
        self._tell_next(found)

    def _tell_next(self, found: _Gate) -> None:
        next_ones = sorted(found.waiting, key=found.waiting.__getitem__)[:3]
        for told in self._listeners:
            for token in next_ones:
                told(token)

    async def withdraw(self, gate: str, caller: Caller) -> None:
        """Wait no longer, and hold no permit."""
        found = self._gates[gate]
        found.drop(caller.token)
        if found.permits.pop(caller.token, None) is not None:
            self._tell_next(found)

    async def renew(self, permits: tuple[Permit, ...]) -> None:
        until = self._now() + self._lease
        for permit in permits:
            held = self._gates[permit.gate].permits
            if permit.token in held:
                held[permit.token] = until

    async def state(self, gate: str, limits: GateLimits) -> GateState:
        now, found = self._now(), self._gates[gate]
        found.forget(now)
        part = int(now / (limits.window_seconds / WINDOW_PARTS))
        found.window.forget_before(part - WINDOW_PARTS)
        reason, seconds = found.closed(now) or (None, 0.0)
        return GateState(
            in_flight=len(found.permits),
            waiting=len(found.places),
            requests=found.window.requests.total(),
            tokens=found.window.tokens.total(),
            closed_for_seconds=seconds,
            closed_by=reason,
        )

    async def aclose(self) -> None:
        """Nothing is open."""


def _left(limit: int | None, used: int) -> float:
    return inf if limit is None else limit - used


def _note(gate: _Gate, departure: Departure, now: float) -> None:
    """Remember what a call says of its endpoint, as in lua/gate_leave.lua."""
    outcome, wait = departure.outcome, departure.wait_seconds
    if outcome is CallOutcome.ANSWERED:
        gate.calm(None)
    elif outcome is not CallOutcome.UNKNOWN and gate.trouble_for(now) is None:
        gate.calm(now)
    if outcome is CallOutcome.REFUSED and not wait:
        wait = gate.refused(now)
    if wait:
        wait = min(wait, LONGEST_WAIT_SECONDS)
        gate.cool_until = max(gate.cool_until, now + wait)
    if outcome is CallOutcome.UNAVAILABLE:
        gate.failures += 1
        gate.probe_at = now + PROBE_SECONDS
    if outcome in {CallOutcome.REFUSED, CallOutcome.UNAVAILABLE}:
        gate.trouble_at = max(now, gate.cool_until)
