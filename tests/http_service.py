"""The HTTP service on stores in memory, with a scripted model, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from orchestrator.agent_config import AgentConfig
from orchestrator.http.app import create_app
from orchestrator.http.server import protocol_of
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import Settings
from workers.agent_manager import LocalAgentManager
from workers.in_process import open_orchestrator
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tool, tool

START_SECONDS = 20.0


@tool(effect="pure")
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@dataclass
class Service:
    """Running replicas, the orchestrator behind them, the model they ask."""

    urls: list[str]
    celeriac: AsyncOrchestrator
    model: ScriptedLLMProvider
    servers: list[uvicorn.Server] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.urls[0]


@asynccontextmanager
async def serving(
    replies: Script | None = None,
    *,
    replicas: int = 1,
    prepare: Callable[[LocalAgentManager], None] = lambda _: None,
    http: dict[str, Any] | None = None,
    tools: Sequence[Tool] = (),
    **settings: Any,
) -> AsyncIterator[Service]:
    """Serve agents `assistant` (no tools) and `forecaster` (the tool `weather`)."""
    configured = Settings(
        http=http or {}, storage={"backend": "memory"}, agents={}, **settings
    )
    model = ScriptedLLMProvider(replies=replies)
    manager = LocalAgentManager(model, ToolRegistry([weather, *tools]))
    manager.register_agent(AgentConfig(name="assistant"))
    manager.register_agent(AgentConfig(name="forecaster", tools=("weather",)))
    prepare(manager)
    async with (
        open_orchestrator(configured, manager=manager) as celeriac,
        AsyncExitStack() as stack,
    ):
        service = Service([], celeriac, model)
        for _ in range(replicas):
            url, server = await stack.enter_async_context(
                _replica(configured, celeriac)
            )
            service.urls.append(url)
            service.servers.append(server)
        yield service


@asynccontextmanager
async def _replica(
    settings: Settings, celeriac: AsyncOrchestrator
) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    app = create_app(settings, parts=celeriac._parts)
    config = uvicorn.Config(
        app,
        http=protocol_of(settings.http),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    # asyncio sends at once on sockets that say that they are TCP alone.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config.load()
        server.lifespan = config.lifespan_class(config)
        running = asyncio.create_task(server._serve([listener]))
        async with asyncio.timeout(START_SECONDS):
            while not server.started:
                await asyncio.sleep(0)
                assert not running.done(), await running
        try:
            yield url, server
        finally:
            server.should_exit = True
            await running
