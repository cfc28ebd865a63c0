"""A forked process hears that its parent drains, or is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings

import pytest

from workers.drain_pipe import DrainPipe

HEARD = 7


def fork_listener(pipe: DrainPipe) -> int:
    """Return the pid of a child that exits with `HEARD` when it is told to drain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    signal.alarm(10)
    loop = asyncio.new_event_loop()
    pipe.listen(loop, lambda: os._exit(HEARD))
    loop.run_forever()
    os._exit(1)


@pytest.mark.parametrize("forked_before", [True, False])
def test_a_child_hears_the_announcement_whenever_it_was_forked(
    forked_before: bool,
) -> None:
    pipe = DrainPipe()
    if forked_before:
        children = [fork_listener(pipe), fork_listener(pipe)]
        pipe.announce()
    else:
        pipe.announce()
        children = [fork_listener(pipe)]
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == HEARD


def test_announcing_twice_does_nothing_more() -> None:
    pipe = DrainPipe()
    pipe.announce()
    with open(os.devnull, "rb") as opened:  # noqa: PTH123 - it takes the pipe's number
        pipe.announce()
        os.fstat(opened.fileno())
