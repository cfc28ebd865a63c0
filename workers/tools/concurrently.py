"""Running several coroutines together, leaving none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all together and return their results, in order.

    Unlike `asyncio.gather`, the first error, or the caller's own cancellation, cancels
    the others and waits for their ends. The coroutines begin in the order given.
    """
    pending = list(coroutines)
    if len(pending) == 1:
        return [await pending[0]]  # as most turns have it: no task is needed
    tasks = [asyncio.create_task(coroutine) for coroutine in pending]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
