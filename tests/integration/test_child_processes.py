"""Children of the command line end, whatever happens to who waits for their end."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.cli.processes import start, stop

STUBBORN = (
    "import signal, sys, threading;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True);"
    "threading.Event().wait(60)"
)


async def start_stubborn() -> asyncio.subprocess.Process:
    child = await start([sys.executable, "-c", STUBBORN], {})
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def test_a_child_that_ignores_its_end_is_killed_after_the_grace() -> None:
    child = await start_stubborn()
    await stop(child, grace_seconds=0.05)
    assert child.returncode == -9


async def test_a_second_interruption_kills_at_once() -> None:
    child = await start_stubborn()
    stopping = asyncio.create_task(stop(child, grace_seconds=50))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping}, timeout=30)
    assert stopping.cancelled()
    assert child.returncode == -9
