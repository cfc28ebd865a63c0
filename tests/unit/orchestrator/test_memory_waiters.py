"""Waiting in memory, across loops and threads."""

from __future__ import annotations

import asyncio
import threading

from orchestrator.memory_waiters import MemoryWaiters


async def test_a_waiter_is_woken_by_another_threads_loop() -> None:
    waiters, found = MemoryWaiters(), []
    looked = threading.Event()

    def look() -> str | None:
        looked.set()
        return found[0] if found else None

    def change_elsewhere() -> None:
        async def change() -> None:
            found.append("here")
            waiters.notify("name")

        assert looked.wait(10)
        asyncio.run(change())

    thread = threading.Thread(target=change_elsewhere)
    thread.start()
    assert await waiters.until("name", look, wait_seconds=10) == "here"
    thread.join()


async def test_a_wait_ends_with_nothing_after_its_time() -> None:
    waiters = MemoryWaiters()
    assert await waiters.until("name", lambda: None, wait_seconds=0.01) is None


def test_a_waiter_whose_loop_is_gone_harms_nobody() -> None:
    waiters = MemoryWaiters()

    async def wait_and_vanish() -> None:
        waiting = asyncio.ensure_future(
            waiters.until("name", lambda: None, wait_seconds=60)
        )
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(wait_and_vanish())
    waiters.notify("name")
