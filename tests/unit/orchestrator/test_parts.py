"""Closing what an orchestrator is made of."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import StoreUnavailable
from tests.unit.orchestrator.memory_parts import memory_parts


class Closable:
    """A part of which only the end is of interest."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed = False
        self._error = error

    async def aclose(self) -> None:
        self.closed = True
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_every_part_is_closed_when_one_cannot_be(broken: int) -> None:
    error = StoreUnavailable("away")
    closables: list[Any] = [
        Closable(error if number == broken else None) for number in range(3)
    ]
    store, queue, directory = closables
    parts = memory_parts(store=store, queue=queue, directory=directory)
    with pytest.raises(StoreUnavailable, match="away"):
        await parts.aclose()
    assert all(part.closed for part in closables)
