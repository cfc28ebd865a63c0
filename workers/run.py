"""One attempt at a task, seen from outside: its lease, its clocks, how it is stopped.

Knows no store and no agent. The executor owns it; the heartbeat and the limits call
`interrupt`; the run context asks it at every step.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import IntEnum
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from orchestrator.store import Lease
from orchestrator.task import AwaitedCall, Task
from workers.errors import SoftTimeLimitReached
from workers.none_yet import NONE
from workers.over import refused

AGENT_STOP_SECONDS = 5.0
"""How long an agent may take to obey its cancel before it is left behind."""
NEXT_STEP_SECONDS = 0.5
"""How long one may take from its soft limit to its next step: who takes none is not
told of the limit and is stopped. A run that goes on after its limit begins between two.
"""
PASSING_ON_SECONDS = 0.1
"""How long an agent may take to pass its cancel on to the steps it waits for: each of
nested task groups does it one turn of the loop later.
"""


class Interrupt(IntEnum):
    """Why a run must stop; a higher one overrules a lower one."""

    SOFT_LIMIT = 1
    PARK = 2
    DRAIN = 3
    GRACE_OVER = 4
    CANCEL = 5
    DEADLINE = 6
    HARD_LIMIT = 7
    LEASE_LOST = 8


class _UnderWay(NamedTuple):
    """A step that has begun and not ended."""

    name: str
    cancels: int
    """That its asyncio task had outlived before; it keeps count of them for ever."""
    cuts: int = 0
    """Cancels by the soft limit."""


class Run:
    """An attempt in this process. All methods belong to the run's event loop."""

    def __init__(
        self,
        task: Task,
        *,
        lease: Lease | None = None,
        recorded: Task | None = None,
        deadline_left_seconds: float | None = None,
        agent_stop_seconds: float = AGENT_STOP_SECONDS,
    ) -> None:
        self._deadline_left_seconds = (
            math.inf if deadline_left_seconds is None else deadline_left_seconds
        )
        self._agent_stop_seconds = agent_stop_seconds
        self.task = task
        self.recorded = recorded or task
        """As others see it; the limits that it has here may be shorter."""
        self.lease = lease
        self.interrupt_reason: Interrupt | None = None
        self.started = monotonic()
        self._left: asyncio.Future[None] | None = None
        self._agent_task: asyncio.Task[Any] | None = None
        self._steps: dict[asyncio.Task[Any], _UnderWay] = {}
        self._recorders: list[asyncio.Task[Any] | None] = []
        self._untold: frozenset[asyncio.Task[Any] | None] = NONE
        """On their way to a step when the soft limit was told to another."""
        self.awaited: list[AwaitedCall] = []
        """Calls that a person must decide on before the run can go on."""
        self._soft_told = False
        self._drain_asked = False
        self._timers: list[asyncio.TimerHandle] = []
        self._limits: list[tuple[float, Interrupt]] = []
        """Not reached yet, the nearest last; in seconds from the clocks' begin."""
        self._begun_at = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and task id."""
        return self.task.tenant, self.task.id

    @property
    def wrapping_up(self) -> bool:
        """True once the agent was told of the soft limit."""
        return self._soft_told

    @property
    def goes_on(self) -> bool:
        """False once anything has asked it to stop or to pause."""
        return self.interrupt_reason is None and not self._drain_asked

    def is_over(self) -> bool:
        """True once it may begin no step any more: it must stop, or has ended."""
        reason = self.interrupt_reason
        must_stop = reason is not None and reason is not Interrupt.SOFT_LIMIT
        return must_stop or self.has_left

    @property
    def has_left(self) -> bool:
        """Whether its agent has ended or was left behind: only its end is written.

        For another thread than its own too.
        """
        return self._left is not None and self._left.done()

    def is_of(self, task: asyncio.Task[Any]) -> bool:
        """Whether an asyncio task is this run's agent or one of its steps."""
        return task is self._agent_task or task in self._steps

    def doing(self, task: asyncio.Task[Any]) -> str:
        """What one of its asyncio tasks works on: a step's name, else the agent."""
        step = self._steps.get(task)
        return step.name if step else "agent"

    def running_seconds(self) -> float:
        """Seconds of this attempt so far."""
        return monotonic() - self.started

    def remaining_seconds(self) -> float:
        """Seconds to the soft limit, or to the hard one once wrapping up.

        Never more than to the deadline.
        """
        soft, hard = self.task.soft_time_limit_seconds, self.task.time_limit_seconds
        limit = hard if self._soft_told else (soft if soft is not None else hard)
        now = self.running_seconds()
        left = math.inf if limit is None else limit - self.task.running_seconds - now
        return max(0.0, min(left, self._deadline_left_seconds - now))

    @property
    def is_overdue(self) -> bool:
        """Whether others would end it by now; for another thread than its own.

        An end that waits for the store is no longer subject to limits.
        """
        if self.has_left:
            return False
        hard, now = self.recorded.time_limit_seconds, self.running_seconds()
        left = math.inf if hard is None else hard - self.task.running_seconds
        return min(left, self._deadline_left_seconds) < now

    def start(self, agent_task: asyncio.Task[Any]) -> asyncio.Future[None]:
        """Begin the clocks of the agent's task.

        Returns a future that is done when the task has ended, or has disobeyed its
        cancel for too long.
        """
        self._agent_task = agent_task
        loop = asyncio.get_running_loop()
        self._left, self._begun_at = loop.create_future(), loop.time()
        agent_task.add_done_callback(self._leave)
        self._limits = sorted(self._limits_left(), reverse=True)
        self._await_limit()
        return self._left

    def _limits_left(self) -> Iterator[tuple[float, Interrupt]]:
        """Yield in how many seconds which limit is reached."""
        soft, hard = self.task.soft_time_limit_seconds, self.task.time_limit_seconds
        used = self.task.running_seconds
        if soft is not None:
            yield soft - used, Interrupt.SOFT_LIMIT
        if hard is not None:
            yield hard - used, Interrupt.HARD_LIMIT
        if self._deadline_left_seconds < math.inf:
            left = self._deadline_left_seconds - self.running_seconds()
            yield left, Interrupt.DEADLINE

    def _await_limit(self) -> None:
        """Set the clock to the nearest limit: most runs reach none."""
        if self._limits:
            seconds, reason = self._limits.pop()
            loop = asyncio.get_running_loop()
            at = self._begun_at + max(0.0, seconds)
            self._timers.append(loop.call_at(at, self._reach, reason))

    def _reach(self, reason: Interrupt) -> None:
        self._await_limit()
        self.interrupt(reason)

    def stop(self) -> None:
        """End the clocks, and the steps that an agent has left under way."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._leave()
        self._agent_task = None
        if self._steps:
            self._call_later(self._agent_stop_seconds, self._cancel_again)

    def interrupt(self, reason: Interrupt) -> None:
        """Stop the run for a reason.

        A drain waits for the next step boundary at which no other step is under way: it
        would cut that one short, and nobody could tell what a `once` call had done.
        """
        if reason is Interrupt.DRAIN:
            self._drain_asked = True
            return
        if self.interrupt_reason is not None and self.interrupt_reason >= reason:
            return
        self.interrupt_reason = reason
        if reason is Interrupt.SOFT_LIMIT:
            self._cut_steps()
        elif self._agent_task is not None:
            self._agent_task.cancel()
            self._call_later(PASSING_ON_SECONDS, self._cancel_steps)
            self._call_later(self._agent_stop_seconds, self._leave)

    def _cancel_steps(self) -> None:
        """Cancel the steps that no cancel has reached: `asyncio.wait` passes none on.

        A second one would cut short how a step ends.
        """
        for task, step in self._steps.items():
            if task.cancelling() <= step.cancels + step.cuts:
                task.cancel()

    def _cancel_again(self) -> None:
        """Cancel what has swallowed its cancel, or has taken too long to obey it."""
        for task in self._steps:
            task.cancel()

    def _cut_steps(self) -> None:
        """Tell the soft limit to the steps under way, else to the next one."""
        for task in self._steps:
            self._cut(task)
        self._call_later(self._agent_stop_seconds, self._cut_again)
        if not self._steps and not self._recorders:
            self._call_later(NEXT_STEP_SECONDS, self._end_without_step)

    def _cut_again(self) -> None:
        """Cut steps that have swallowed it, while there is time for an answer."""
        swallowed = [task for task, step in self._steps.items() if step.cuts]
        if swallowed and self.interrupt_reason is Interrupt.SOFT_LIMIT:
            for task in swallowed:
                self._cut(task)
            self._call_later(self._agent_stop_seconds, self._cut_again)

    def _cut(self, task: asyncio.Task[Any]) -> None:
        step = self._steps[task]
        self._steps[task] = step._replace(cuts=step.cuts + 1)
        task.cancel()

    def _end_without_step(self) -> None:
        """Stop an agent that has come to no step, where it would have been told."""
        is_told = self._soft_told or self._steps or self._recorders
        is_soft = self.interrupt_reason is Interrupt.SOFT_LIMIT
        if is_soft and not is_told and self._agent_task is not None:
            self._agent_task.cancel()

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, call))

    def step(self, name: str) -> AbstractAsyncContextManager[None]:
        """Enclose the work of one named step, which every interrupt may cut short.

        Raises:
            SoftTimeLimitReached: the soft limit passed, told once to each step.
            CancelledError: the run is over.
        """
        return _Step(self, name)

    def begin_step(self, name: str) -> asyncio.Task[Any]:
        current = asyncio.current_task()
        if current is None:
            raise RuntimeError("a step runs inside an asyncio task")
        is_alone = not self._steps and not self._recorders
        if self._drain_asked and self.interrupt_reason is None and is_alone:
            self._drain(current)
        is_told = self._soft_told and current not in self._untold
        if self.interrupt_reason is Interrupt.SOFT_LIMIT and not is_told:
            raise self._soft_limit_reached()
        self._steps[current] = _UnderWay(name, current.cancelling())
        return current

    def end_step(self, current: asyncio.Task[Any], error: BaseException | None) -> None:
        """Note a step's end.

        Raises:
            SoftTimeLimitReached: in the place of the cancel by which it was cut short.
        """
        step = self._steps.pop(current, None)
        if self.awaited:
            self._park_soon()
        cuts = step.cuts if step is not None else 0
        for _ in range(cuts):  # swallowed or not, they were this step's
            current.uncancel()
        is_soft = self.interrupt_reason is Interrupt.SOFT_LIMIT
        if cuts and is_soft and isinstance(error, asyncio.CancelledError):
            raise self._soft_limit_reached() from None

    def limit_told_before(self) -> SoftTimeLimitReached:
        """Return what an earlier attempt was told; this one is told of it no more."""
        return self._soft_limit_reached()

    def tell_limit_again(self) -> None:
        """Tell the soft limit to the agent too: a step that is not its own heard it."""
        self._soft_told = False

    def recording(self) -> AbstractContextManager[None]:
        """Enclose the writing of a finished step, which a soft limit waits for."""
        return _Recording(self)

    def begin_recording(self) -> None:
        self._recorders.append(asyncio.current_task())

    def end_recording(self) -> None:
        self._recorders.remove(asyncio.current_task())
        if self.awaited:
            self._park_soon()

    async def park(self, call: AwaitedCall) -> NoReturn:
        """Wait for a decision on a call: ends the attempt once no other step runs."""
        self.awaited.append(call)
        self._park_soon()
        await asyncio.get_running_loop().create_future()
        raise RuntimeError("a parked run is woken by a later attempt")

    def _park_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._park_when_idle)

    def _park_when_idle(self) -> None:
        if not self._steps and not self._recorders:
            self.interrupt(Interrupt.PARK)

    def _leave(self, *_: object) -> None:
        if self._left is not None and not self._left.done():
            self._cancel_steps()
            self._left.set_result(None)

    def _soft_limit_reached(self) -> SoftTimeLimitReached:
        if not self._soft_told:
            self._untold = NONE.union(self._recorders) or NONE
        self._untold = self._untold - {asyncio.current_task()} or NONE
        self._soft_told = True
        return SoftTimeLimitReached(
            f"the soft time limit of {self.task.soft_time_limit_seconds} s passed;"
            " answer with what there is"
        )

    def _drain(self, current: asyncio.Task[Any]) -> None:
        self.interrupt_reason = Interrupt.DRAIN
        (self._agent_task or current).cancel()
        raise asyncio.CancelledError("the worker is shutting down")


class _Recording:
    """What `Run.recording` gives; the run does not keep it, so it leaves no cycle."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._run.begin_recording()

    def __exit__(self, *_: object) -> None:
        self._run.end_recording()


class _Step:
    """What `Run.step` gives; no generator, as `_Recording` is none."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._name = name
        self._task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> None:
        if self._run.is_over():
            await refused("the run")
        self._task = self._run.begin_step(self._name)

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._run.end_step(self._task, error)
