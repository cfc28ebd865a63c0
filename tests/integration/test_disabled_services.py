"""A service that is switched off refuses by name, before it asks any server."""

from __future__ import annotations

import pytest

from orchestrator import AsyncOrchestrator, load_settings
from orchestrator.errors import InvalidSettings, ServiceDisabled

NOWHERE = {"redis_url": "redis://127.0.0.1:9/0"}


async def test_without_the_agent_manager_nothing_is_submitted() -> None:
    off = {"agent_manager": {"enabled": False}}
    settings = load_settings(storage=NOWHERE, services=off)
    async with AsyncOrchestrator(settings) as celeriac:
        with pytest.raises(ServiceDisabled, match=r"services\.agent_manager\.enabled"):
            await celeriac.submit("assistant", {"prompt": "hi"})


async def test_without_conversations_no_task_continues_one() -> None:
    off = {"conversations": {"enabled": False}}
    settings = load_settings(storage=NOWHERE, services=off)
    async with AsyncOrchestrator(settings) as celeriac:
        with pytest.raises(ServiceDisabled, match=r"services\.conversations\.enabled"):
            await celeriac.submit("assistant", {"prompt": "hi"}, conversation_id="c")
        with pytest.raises(ServiceDisabled):
            _ = celeriac.conversations


def test_a_memory_backend_names_where_it_can_be_used() -> None:
    settings = load_settings(storage={"backend": "memory"})
    with pytest.raises(InvalidSettings, match="in_process"):
        AsyncOrchestrator(settings)
