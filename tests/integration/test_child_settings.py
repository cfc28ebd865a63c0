"""The children of a worker have its settings, however long after its start."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from orchestrator import AsyncOrchestrator
from tests.stand import Stand, wait_until
from workers.llm.double import Double

pytestmark = pytest.mark.timeout(120)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


async def test_a_child_that_follows_one_that_died_has_the_workers_settings(
    stand: Stand,
) -> None:
    """The file may be in the midst of a change that is meant for the next start."""
    async with Double() as double:
        stand.llm_url = double.url
        start = (stand.start_worker, "--pool", "prefork")
        worker = await asyncio.to_thread(*start, slots=1)
        await asyncio.to_thread(wait_until, lambda: " ready." in worker.text(), 20)
        (child,) = _children(worker.pid)
        (stand.directory / "celeriac.yaml").write_text("nonsense: {}\n")
        os.kill(child, signal.SIGKILL)
        await asyncio.to_thread(
            wait_until, lambda: _children(worker.pid) not in ([], [child]), 20
        )
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            task = await celeriac.submit("assistant", {"prompt": "Still there?"})
            await task.result(timeout=20)
