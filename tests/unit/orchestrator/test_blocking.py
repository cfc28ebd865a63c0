from __future__ import annotations

import pytest

from orchestrator.blocking import Orchestrator
from orchestrator.errors import LoopWouldBlock
from orchestrator.loop_thread import LoopThread
from orchestrator.settings import Settings


def test_a_coroutine_of_a_worker_is_refused_what_would_block_its_loop() -> None:
    runs = LoopThread()

    async def tool_that_makes_one() -> None:
        Orchestrator(Settings())

    async def tool_that_uses(celeriac: Orchestrator) -> None:
        celeriac.get("task-1")

    with Orchestrator(Settings()) as celeriac:
        for tool in (tool_that_makes_one(), tool_that_uses(celeriac)):
            with pytest.raises(LoopWouldBlock, match="await AsyncOrchestrator"):
                runs.await_(tool, timeout=30)
    runs.close()
