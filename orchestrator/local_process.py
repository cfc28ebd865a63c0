"""Names worker processes so that another on the same kernel can tell if one died.

A lease alone tells a dead worker from a slow one only once it has run out. The kernel
knows at once, but only of its own processes: containers may share a host's name, and a
process id is used again. Where `/proc` does not say which kernel this is, nobody is
ever taken for dead.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import time
from typing import Final

_PROC: Final = Path("/proc")
_STATE, _BORN = 0, 19
"""Fields of `/proc/<pid>/stat`, counted from behind the command's closing bracket."""
_DEAD_STATES: Final = ("Z", "X")
_KERNEL_DIGITS: Final = 12


def worker_id() -> str:
    """Name this process: `host:pid:birth`, unique to it.

    The birth is the kernel's and names the kernel, or else the second by the clock.
    """
    pid = os.getpid()
    born = _born(pid)
    birth = f"{born}-{_kernel()}" if born and _kernel() else str(int(time()))
    return f"{socket.gethostname()}:{pid}:{birth}"


@cache
def release() -> str:
    """Return the release that runs here, whatever the disk holds by now.

    The first call reads the disk, which may be upgraded under a worker that runs.
    """
    return version("celeriac")


def is_dead(worker_id: str) -> bool:
    """Whether a process ran on this kernel, seen by this user, and is no more."""
    host, _, birth = worker_id.rpartition(":")
    host, _, pid = host.rpartition(":")
    born, _, kernel = birth.partition("-")
    if host != socket.gethostname() or not kernel or kernel != _kernel():
        return False
    return pid.isdecimal() and _born(int(pid)) != born


def _born(pid: int) -> str:
    """When a living process began, in the kernel's ticks; '' when there is none."""
    try:
        facts = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if facts[_STATE] in _DEAD_STATES else facts[_BORN]


def _kernel() -> str:
    """Name the boot, the namespaces and the user: together they see the same processes.

    Another user may not be shown ours (`hidepid`). '' when that is not told.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [str((_PROC / "self/ns" / of).readlink()) for of in ("pid", "user")]
    except OSError:
        return ""
    text = " ".join([boot, *spaces, str(os.getuid())])
    return sha256(text.encode()).hexdigest()[:_KERNEL_DIGITS]
