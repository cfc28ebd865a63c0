"""The application on in-memory stores, for tests that speak HTTP to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from orchestrator.http.app import create_app
from orchestrator.http.auth import hash_of
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import load_settings
from workers.in_process import ExecutorQueue, _in_memory_parts

BASE = "http://127.0.0.1:8000"


@dataclass(frozen=True, kw_only=True)
class Served:
    """An application that answers."""

    app: FastAPI
    parts: OrchestratorParts
    client: httpx.AsyncClient

    @property
    def orchestrator(self) -> AsyncOrchestrator:
        orchestrator: AsyncOrchestrator = self.app.state.orchestrator
        return orchestrator


def key_settings(**scopes_of: tuple[str, tuple[str, ...]]) -> dict[str, object]:
    """Keys by name, which are their text too: their tenant and scopes."""
    return {
        name: {"hash": hash_of(name), "tenant": tenant, "scopes": scopes}
        for name, (tenant, scopes) in scopes_of.items()
    }


@asynccontextmanager
async def serving(**overrides: object) -> AsyncIterator[Served]:
    """Serve with settings; nothing runs what is submitted."""
    settings = load_settings(**overrides)
    queue = ExecutorQueue(asyncio.get_running_loop(), slots=1)
    parts = _in_memory_parts(settings, queue)
    app = create_app(settings, parts=parts)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=BASE) as client,
    ):
        yield Served(app=app, parts=parts, client=client)
