"""Child processes that end with their owner, even when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_SECONDS = 10.0
"""How long a child may take to end after SIGTERM before it is killed."""

_TIED = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept over exec
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Runs before the command: the kernel ends it with its parent (elsewhere than on Linux
it only ends when it is stopped)."""


def tied(command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` and ends with this process.

    On Linux it gets SIGTERM when the thread that starts it ends, so start it from one
    that lives as long as it should.
    """
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


def start_child(
    command: Sequence[str],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    errors: IO[bytes] | int = subprocess.STDOUT,
    environment: Mapping[str, str] | None = None,
    inherit: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command`, tied, in a session of its own: Ctrl-C reaches only its owner.

    Args:
        command: The program and its arguments.
        output: Where its standard output goes.
        errors: Where its standard error goes.
        environment: Variables added to this process's.
        inherit: File descriptors that stay open in it.
    """
    return subprocess.Popen(  # noqa: S603
        tied(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env={**os.environ, **(environment or {})},
        pass_fds=tuple(inherit),
        start_new_session=True,
    )


def stop_child(
    process: subprocess.Popen[bytes], *, grace_seconds: float = STOP_SECONDS
) -> None:
    """Ask the child to end, wait, and kill it and its own children if it does not."""
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def last_line(log: Path) -> str:
    """Return the last line that a child wrote to its log, for an error message."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no output"
    return lines[-1].strip() if lines else "no output"
