"""The gate before each model: what the whole fleet may ask of it, and when.

A gate stands before one model of one endpoint. It bounds calls in flight, requests and
tokens in a window; it closes for as long as the endpoint asks and while the endpoint
is down. Who waits is let in by priority, then fairly between tenants, then by arrival.
`redis_gate` serves all workers, `memory_gate` one process; one suite tests both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, NamedTuple, Protocol

LEASE_SECONDS: Final = 15.0
"""A permit that is not renewed for so long returns: its worker is gone."""
RENEW_SECONDS: Final = 5.0
"""How often a process renews the permits that it holds."""
WAITER_SECONDS: Final = 1.5
"""A waiter that does not ask again so long after its turn to ask is passed over."""
PLACE_SECONDS: Final = 600.0
"""A task that comes back within this time has kept its place."""
ROOM_SECONDS: Final = 15.0
"""Who is owed room, and who waits for it to pass, asks again after so long at most; the
room is kept for so long after it was to come back."""
ROOM_WINDOWS: Final = 2
"""For so many windows, of ROOM_SECONDS at least, others leave room to who is owed it,
and then for as many not: where more urgent calls take it, they would wait for ever."""
FAILURES_TO_OPEN: Final = 5
"""Calls in a row that find the endpoint down before the breaker opens."""
PROBE_SECONDS: Final = 1.0
"""While it is open, one call in so long is let through to try."""
FIRST_COOL_DOWN_SECONDS: Final = 1.0
"""After a refusal that names no wait; doubles with each further one."""
LONGEST_COOL_DOWN_SECONDS: Final = 60.0
"""Of those that doubled; a wait that the endpoint names is obeyed."""
LONGEST_WAIT_SECONDS: Final = 86_400.0
"""An endpoint can close its gate for so long; what it names beyond is a slip."""
FORGET_SECONDS: Final = 120.0
"""Trouble that showed no sign for so long is over; lua/gate.lua has the same."""
MOST_OWED: Final = 2
"""Waiting calls that are owed room: the first, and the largest of the others."""
MOST_SHARES: Final = 10_000
"""Tenants of one gate that are told apart; one that is never quiet forgets others."""
WINDOW_PARTS: Final = 60
"""A window is counted in parts; it is longer by one, so that what is let through late
in a part cannot arrive within another's minute."""
RETURNS_PER_SECOND: Final = 20
"""How many parked tasks look again each second, however many there are."""
LONGEST_PARK_SECONDS: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """What a gate lets through; None sets no bound."""

    in_flight: int | None = None
    requests: int | None = None
    """In one window."""
    tokens: int | None = None
    """In one window."""
    window_seconds: float = 60.0

    @cached_property
    def are_set(self) -> bool:
        """Whether any bound is set."""
        return any(n is not None for n in (self.in_flight, self.requests, self.tokens))

    @cached_property
    def text(self) -> str:
        """What is let through, -1 for no bound, and a part of a window (ms)."""
        most = (self.in_flight, self.requests, self.tokens)
        bounds = (-1 if n is None else n for n in most)
        return " ".join(map(str, (*bounds, self.part_ms)))

    @cached_property
    def part_ms(self) -> int:
        """How long a part of a window is."""
        return max(1, round(self.window_seconds * 1000) // WINDOW_PARTS)


class Caller(NamedTuple):
    """Who wants to pass."""

    token: str
    """Names this one wish; asking again with it keeps the place."""
    tenant: str
    task_id: str
    priority: int = 4
    tokens: int = 0
    """What the call may take, roughly; settled when it leaves."""


class Permit(NamedTuple):
    """The right to make one call."""

    gate: str
    token: str
    part: int
    """The part of the window in which it was granted."""
    tokens: int
    """Counted until it leaves."""


WaitReason = Literal["in_flight", "requests", "tokens", "cool_down", "unavailable"]


class Wait(NamedTuple):
    """Not now."""

    seconds: float
    """When to ask again."""
    reason: WaitReason
    park_seconds: float
    """When to come back instead, if the slot is given to others meanwhile."""
    closed_seconds: float
    """How long the endpoint has refused or been down without one success."""


class CallOutcome(StrEnum):
    """What a call says of its endpoint."""

    ANSWERED = "answered"
    """It answered, be it with an error of the request."""
    REFUSED = "refused"
    """It asked to wait."""
    UNAVAILABLE = "unavailable"
    """It was not reached, or failed."""
    UNKNOWN = "unknown"
    """The call was given up."""


class Departure(NamedTuple):
    """What is told when a call is over."""

    outcome: CallOutcome
    tokens: int | None = None
    """What it really took; None leaves what was counted."""
    wait_seconds: float | None = None
    """How long the endpoint asks everyone to wait; a refusal's 0 names no wait, or it
    would be answered by the next call at once, without end."""


@dataclass(frozen=True, kw_only=True)
class GateState:
    """How a gate stands."""

    in_flight: int = 0
    waiting: int = 0
    requests: int = 0
    """In the present window."""
    tokens: int = 0
    """In the present window."""
    closed_for_seconds: float = 0.0
    """Until it opens again; 0 when it is open."""
    closed_by: WaitReason | None = None
    """Why it is closed."""


class Gate(Protocol):
    """What becomes of calls that a `Toll` has let pass, and of those that wait.

    Instants come from its own clock.
    """

    async def report(self, gate: str, departure: Departure) -> None:
        """Tell how a call ended that was made without a permit."""
        ...

    async def renew(self, permits: tuple[Permit, ...]) -> None:
        """Prove that the holder of permits lives."""
        ...

    async def listen(self, told: Callable[[str], None]) -> None:
        """Tell the tokens of waiters whose turn may have come, until cancelled.

        A word may be lost, and a turn may be gone when it is taken: who waits still
        asks again by itself.

        Raises:
            StoreUnavailable: nothing more is told; listen again.
        """
        ...

    async def state(self, gate: str, limits: GateLimits) -> GateState:
        """Tell how a gate stands."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


def gate_name(endpoint: str, base_url: str, model: str) -> str:
    """Return the name of the gate before a model."""
    return f"{endpoint} {base_url} {model}"


def park_seconds(wait_seconds: float, *, waiters: int) -> float:
    """Return when a parked task is to come back.

    The more there are, the later: each second about the same number looks again.
    """
    spread = min(waiters / RETURNS_PER_SECOND, LONGEST_PARK_SECONDS)
    return max(1.0, wait_seconds, spread)
