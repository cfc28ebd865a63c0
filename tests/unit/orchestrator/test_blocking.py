from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from orchestrator.blocking import Orchestrator
from orchestrator.errors import InvalidSettings, LoopWouldBlock
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


def test_of_two_threads_that_close_it_neither_fails() -> None:
    errors: list[Exception] = []

    def close(celeriac: Orchestrator) -> None:
        try:
            celeriac.close()
        except (CancelledError, RuntimeError, TimeoutError) as exc:
            errors.append(exc)

    for _ in range(20):
        celeriac = Orchestrator(Settings())
        threads = [
            threading.Thread(target=close, args=(celeriac,), daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert errors == []


def _loops() -> list[threading.Thread]:
    name = "celeriac-orchestrator"
    return [each for each in threading.enumerate() if each.name == name]


def test_one_that_nobody_closed_warns_and_leaves_no_thread() -> None:
    before = set(_loops())
    with pytest.warns(ResourceWarning, match="was not closed"):
        Orchestrator(Settings())  # and its only name is gone
    for left in set(_loops()) - before:
        left.join(30)
        assert not left.is_alive()


def test_an_address_in_place_of_settings_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidSettings, match=r"got str\).*load_settings\(storage="):
        Orchestrator("redis://localhost:6379/0")  # type: ignore[arg-type]
