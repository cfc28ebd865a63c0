"""An AsyncOrchestrator that is used on one event loop and then on another."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable

import pytest

from orchestrator import AsyncOrchestrator
from orchestrator.errors import WrongLoop
from orchestrator.settings import load_settings

Use = Callable[[AsyncOrchestrator], Awaitable[object]]
USES: dict[str, Use] = {
    "submit": lambda celeriac: celeriac.submit("assistant", {"prompt": "x"}),
    "list": lambda celeriac: celeriac.list(),
    "agent": lambda celeriac: celeriac.agent("assistant"),
    "agents": lambda celeriac: celeriac.agents(),
    "conversations": lambda celeriac: celeriac.conversations.create(),
    "aclose": lambda celeriac: celeriac.aclose(),
}


async def used(use: Use, celeriac: AsyncOrchestrator) -> None:
    await use(celeriac)


@pytest.mark.parametrize("again", USES)
@pytest.mark.parametrize("first", ["submit", "list"])
def test_use_on_another_event_loop_is_told(
    clean_redis_url: str, first: str, again: str
) -> None:
    celeriac = AsyncOrchestrator(load_settings(storage={"redis_url": clean_redis_url}))
    asyncio.run(used(USES[first], celeriac))
    for _ in range(2):
        with pytest.raises(WrongLoop, match=r"one within each asyncio\.run"):
            asyncio.run(used(USES[again], celeriac))
    with warnings.catch_warnings(action="ignore"):  # nobody can close its connections
        del celeriac
        gc.collect()


def test_one_that_was_closed_on_its_loop_may_be_closed_again_on_another(
    clean_redis_url: str,
) -> None:
    celeriac = AsyncOrchestrator(load_settings(storage={"redis_url": clean_redis_url}))

    async def use_and_close() -> None:
        await used(USES["list"], celeriac)
        await celeriac.aclose()

    asyncio.run(use_and_close())
    asyncio.run(celeriac.aclose())
