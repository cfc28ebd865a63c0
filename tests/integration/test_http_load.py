"""Many connections and slow readers: others are served, and memory stays bounded."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator

import httpx
import pytest

from orchestrator.agent_config import AgentConfig
from tests.http_service import Service, serving
from tests.integration.http_doors import get
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext

IDLE = 1000
READERS = 20
PIECE, PIECES = "x" * 20_000, 400
HIGH_WATER = 64 * 1024
"""What asyncio holds for a connection before it asks a writer to wait."""


@pytest.fixture(autouse=True)
def enough_files() -> Iterator[None]:
    """Both ends of each connection are files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE + 500
    if soft < wanted:
        if hard < wanted:
            pytest.skip(f"this process may open {hard} files only")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def address(service: Service) -> tuple[str, int]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return host, int(port)


@pytest.mark.timeout(120)
async def test_a_thousand_idle_connections_keep_nobody_out() -> None:
    async with (
        serving(lambda _: "ok", http={"header_timeout": "5s"}) as service,
        httpx.AsyncClient(base_url=service.url, timeout=20) as client,
    ):
        openings = (
            b"",
            b"GET /agents HT",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        )
        idle = []
        for number in range(IDLE):
            reader, writer = await asyncio.open_connection(*address(service))
            writer.write(openings[number % len(openings)])
            idle.append((reader, writer))
        assert (await client.get("/agents")).status_code == 200
        body = {"model": "assistant", "input": "hi"}
        answer = await client.post("/v1/responses", json=body)
        assert answer.json()["status"] == "completed"
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*(reader.read() for reader, _ in idle))
        assert ends == [b""] * IDLE
        for _, writer in idle:
            writer.close()
        # The client's own connection may just be closed for having been idle as long.
        async with httpx.AsyncClient(base_url=service.url, timeout=20) as later:
            assert (await later.get("/agents")).status_code == 200


class Chatty:
    """Says a lot, in many pieces."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        for _ in range(PIECES):
            await ctx.progress(PIECE)
        return AgentResult(content="said")


async def said_a_lot(service: Service) -> str:
    """The id of a task whose log is far larger than any buffer."""
    handle = await service.celeriac.submit("chatty", {"prompt": "hi"})
    await handle.result(30)
    return handle.id


def slow_reader(service: Service, task_id: str) -> socket.socket:
    """Asks for a stream and takes nothing of it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(address(service))
    reader.sendall(get(f"/tasks/{task_id}/events", "Accept: text/event-stream"))
    return reader


@pytest.mark.timeout(120)
async def test_readers_that_take_nothing_hold_a_bounded_amount_of_memory() -> None:
    def prepare(manager: LocalAgentManager) -> None:
        manager.register_agent(AgentConfig(name="chatty"), Chatty())

    async with serving(prepare=prepare, http={"send_timeout": "60s"}) as service:
        task_id = await said_a_lot(service)
        readers = [slow_reader(service, task_id) for _ in range(READERS)]
        connections = service.servers[0].server_state.connections

        def held() -> list[int]:
            transports = [getattr(each, "transport", None) for each in connections]
            sizes = [each.get_write_buffer_size() for each in transports if each]
            return [size for size in sizes if size]

        async with asyncio.timeout(60):
            while len(held()) < READERS:
                await asyncio.sleep(0.02)
        for _ in range(50):
            await asyncio.sleep(0.01)
            assert max(held()) <= HIGH_WATER + 2 * len(PIECE)
        for reader in readers:
            reader.close()
        async with asyncio.timeout(60):
            while connections:
                await asyncio.sleep(0.02)
