"""How synchronous code on an event loop awaits a coroutine: by a greenlet.

The code runs in a greenlet on the loop's thread; `await_` hands its coroutine to the
loop and pauses the greenlet until the coroutine ends. Knows nothing of Celery.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from orchestrator.loop_thread import LoopThread

T = TypeVar("T")
logger = logging.getLogger(__name__)


MOST_IDLE: Final = 64
"""Greenlets that are kept for further calls; each holds 20 KiB."""


class LoopGreenlet(greenlet):  # type: ignore[misc]
    """A greenlet on a loop's thread whose code may call `await_`.

    It makes one call after the other, until one raises: for each new greenlet Python
    asks the system for memory, which costs as much as thirty of its calls.
    """

    call: partial[Any] | None = None
    """What it calls when it is switched to next."""
    outcome: Any = None
    """What its call gave, until that is taken: an idle one keeps nothing alive."""
    refusal: BaseException | None = None
    """Raised by each further `await_`, once the loop waits no more for this code."""


ENDED: Final = object()
"""What a greenlet gives when its call has returned and it can make another."""


class Greenlets:
    """The greenlets of one loop's thread."""

    def __init__(self) -> None:
        self._idle: list[LoopGreenlet] = []
        self._most_idle = MOST_IDLE

    def calling(self, call: partial[Any], context: Context) -> LoopGreenlet:
        """Return one that makes a call when it is switched to."""
        chosen = self._idle.pop() if self._idle else LoopGreenlet(_make_calls)
        chosen.call, chosen.gr_context = call, context
        return chosen

    def take_back(self, idle: LoopGreenlet) -> Any:
        """Keep one whose call has ended for another, or end it; return what it gave."""
        outcome, idle.outcome = idle.outcome, None
        if len(self._idle) < self._most_idle:
            idle.gr_context = None
            self._idle.append(idle)
        else:
            idle.switch()
        return outcome

    def dismiss(self) -> None:
        """End those that are idle; those that are not end with their call."""
        self._most_idle = 0
        while self._idle:
            self._idle.pop().switch()


def _make_calls() -> None:
    current = getcurrent()
    while current.call is not None:
        call, current.call = current.call, None
        current.outcome = outcome_of(call)
        del call
        if current.refusal is not None:
            return
        current.parent.switch(ENDED)


def outcome_of(call: partial[Any]) -> Any:
    """Make a call in a greenlet; each has a frame of this function."""
    if len(call.args) == _ARGUMENTS_OF_A_TASK and not call.keywords:
        # Python takes no more of the stack, which a waiting greenlet keeps.
        one, two, three, four, five, six = call.args
        return call.func(one, two, three, four, five, six)
    return call.func(*call.args, **call.keywords)


_ARGUMENTS_OF_A_TASK: Final = 6
"""That Celery gives its tracer."""


def given_by(resume: Callable[..., T], *values: object) -> T:
    """Resume a greenlet; return what it awaits next, or came to; raise what it raises.

    Args:
        resume: The greenlet's `switch` or `throw`.
        values: What that takes.
    """
    given = resume(*values)
    if isinstance(given, GreenletExit):  # greenlet returns this one where it is raised
        raise given
    return given


def await_(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return or raise what the coroutine does; others run on the loop meanwhile.

    For the body of a task and the functions it calls. Inside a coroutine, `await`.

    Raises:
        RuntimeError: the caller is not code that a loop runs in a greenlet.
    """
    current = getcurrent()
    refusal: BaseException | None = RuntimeError(
        "await_ is for the body of a task in AsyncPool, but was called in thread"
        f" {threading.current_thread().name!r}; inside a coroutine use await, in other"
        " pools wait for the process's loop thread"
    )
    if isinstance(current, LoopGreenlet):
        refusal = current.refusal
    if refusal is not None:
        coroutine.close()
        raise refusal
    return cast(T, current.parent.switch(coroutine))


class GreenletLoop(LoopThread):
    """A loop thread that its own greenlets may also wait for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.greenlets = Greenlets()

    def close(self) -> None:
        if self.is_alive:
            self.loop.call_soon_threadsafe(self.greenlets.dismiss)
        super().close()

    def await_(
        self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None
    ) -> T:
        """Wait as a thread, or as a greenlet when called on the loop's own thread."""
        if threading.current_thread() is self._thread:
            return await_(coroutine)
        return super().await_(coroutine, timeout=timeout)
