"""How synchronous code on an event loop awaits a coroutine: by a greenlet.

The code runs in a greenlet on the loop's thread; `await_` hands its coroutine to the
loop and pauses the greenlet until the coroutine ends. Knows nothing of Celery.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from orchestrator.loop_thread import LoopThread

T = TypeVar("T")
logger = logging.getLogger(__name__)


class LoopGreenlet(greenlet):  # type: ignore[misc]
    """A greenlet on a loop's thread whose code may call `await_`."""

    refusal: BaseException | None = None
    """Raised by each further `await_`, once the loop waits no more for this code."""


def given_by(resume: Callable[..., T], *values: object, **named: object) -> T:
    """Resume a greenlet; return what it awaits next, or came to; raise what it raises.

    Args:
        resume: The greenlet's `switch` or `throw`.
        values: What that takes.
        named: The same.
    """
    given = resume(*values, **named)
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

    def await_(
        self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None
    ) -> T:
        """Wait as a thread, or as a greenlet when called on the loop's own thread."""
        if threading.current_thread() is self._thread:
            return await_(coroutine)
        return super().await_(coroutine, timeout=timeout)
