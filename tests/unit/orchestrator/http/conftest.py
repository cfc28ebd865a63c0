"""The service with pages, on one machine and with keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.orchestrator.http.page_visits import (
    KEYS,
)
from tests.unit.orchestrator.http.serving import Served, serving


@pytest.fixture
async def at_home() -> AsyncIterator[Served]:
    async with serving(http={"flower_url": "http://127.0.0.1:5555"}) as served:
        yield served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(http={"keys": KEYS}, tenant="acme") as served:
        yield served
