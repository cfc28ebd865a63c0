"""What the HTTP service bears: background submits, and viewers of live events.

`python -m benchmarks.http_service [--viewers 1000] [--seconds 15]`: starts a Redis, one
replica and, for the submits, a few clients on loopback. A replica's processor time is
read from /proc, so that clients and Redis on the same cores do not count as its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time

import httptools

from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.embedded import open_redis
from orchestrator.events import EventType, NewEvent
from orchestrator.redis_connection import connect
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Lease
from orchestrator.task import Task

TICK = os.sysconf("SC_CLK_TCK")
BODY = json.dumps({"model": "assistant", "input": "hi", "background": True}).encode()
PLAIN = json.dumps({"agent": "assistant", "input": {"prompt": "hi"}}).encode()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@asynccontextmanager
async def replica(redis_url: str, directory: Path) -> AsyncIterator[tuple[int, int]]:
    """One process of the service: its pid and port."""
    log = directory / "http.log"
    environment = {**os.environ, "REDIS_URL": redis_url, "CELERIAC_HTTP__PORT": "0"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.http"],
            env=environment,
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = monotonic() + 30
        while (found := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())) is None:
            if process.poll() is not None or monotonic() > deadline:
                sys.exit(log.read_text())
            await asyncio.sleep(0.05)
        yield process.pid, int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class Submitter(asyncio.Protocol):
    """A connection that submits again as soon as it is answered."""

    def __init__(self, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += "Content-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.answered = 0
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.answered += 1
        self.refused += self._parser.get_status_code() >= 300
        self._send()

    def _send(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._request)  # type: ignore[attr-defined]


async def measure_submits(
    pid: int, port: int, *, path: str, body: bytes, seconds: float
) -> None:
    """Print how many background submits a replica takes."""
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Submitter(path, body), "127.0.0.1", port)
        for _ in range(64)
    ]
    await asyncio.sleep(1)
    before = [submitter.answered for _, submitter in made]
    began, used = monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    clock, cpu = monotonic() - began, cpu_seconds(pid) - used
    count = sum(s.answered for _, s in made) - sum(before)
    refused = sum(s.refused for _, s in made)
    for transport, _ in made:
        transport.close()
    print(
        f"{path:<16} {count / clock:7.0f} submits/s of the clock,"
        f" {count / max(cpu, 0.01):7.0f} a processor second of the replica"
        f" ({cpu / clock:.2f} cores), {refused} refused"
    )


async def watch(port: int, task_id: str, late: list[float], open_: list[int]) -> None:
    """Follow one task; note how late each event comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /tasks/{task_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    writer.write(f"{request}Accept: text/event-stream\r\n\r\n".encode())
    is_first = True
    async for line in reader:
        if is_first:
            open_.append(1)
            is_first = False
        if line.startswith(b"data: "):
            data = json.loads(line[6:]).get("data", {})
            if "sent_at" in data:
                late.append(time() - data["sent_at"])
    writer.close()


async def run_all(store: RedisTaskStore, tasks: list[Task]) -> list[Lease]:
    """Have all tasks run, as far as the store knows."""
    for start in range(0, len(tasks), 100):
        await store.create(tasks[start : start + 100])
    claims = [
        await store.claim(
            "default", task.id, worker="bench", serves=["assistant"], lease_seconds=600
        )
        for task in tasks
    ]
    return [claim.lease for claim in claims if isinstance(claim, Claim)]


async def measure_viewers(
    pid: int, port: int, store: RedisTaskStore, *, viewers: int, seconds: float
) -> None:
    """Print what viewers of as many running tasks cost, and how late events come."""
    tasks = [Task(agent_name="assistant") for _ in range(viewers)]
    leases = await run_all(store, tasks)
    late: list[float] = []
    open_: list[int] = []
    watching = [asyncio.create_task(watch(port, t.id, late, open_)) for t in tasks]
    while len(open_) < viewers:
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    idle_began, idle_used = monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    idle = (cpu_seconds(pid) - idle_used) / (monotonic() - idle_began)
    began, used, written = monotonic(), cpu_seconds(pid), 0
    while monotonic() < began + seconds:
        for lease in leases:
            event = NewEvent(type=EventType.PROGRESS, data={"sent_at": time()})
            await store.append_events(lease, [event])
            written += 1
            due = began + written / 100
            await asyncio.sleep(max(0.0, due - monotonic()))
            if monotonic() > began + seconds:
                break
    await asyncio.sleep(1)
    clock, cpu = monotonic() - began, cpu_seconds(pid) - used
    for each in watching:
        each.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    late.sort()
    print(
        f"{viewers} viewers, each of a task of its own: {idle:.2f} cores while nothing"
        f" happens, {cpu / clock:.2f} cores at {written / clock:.0f} events/s;"
        f" {len(late)} of {written} events seen,"
        f" {statistics.median(late) * 1000:.1f} ms late at the median,"
        f" {late[int(len(late) * 0.95)] * 1000:.1f} ms at p95"
    )


async def main(viewers: int, seconds: float) -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory(prefix="clc-") as name:
        directory = Path(name)
        with open_redis(directory / "redis", url=None) as redis:
            client = connect(redis.url)
            store = RedisTaskStore(client, known_agents=["assistant"])
            worker = WorkerInfo(
                id="bench",
                hostname="bench",
                pid=1,
                agents=(AgentConfig(name="assistant"),),
            )
            await RedisAgentDirectory(client).announce(worker, ttl_seconds=600)
            async with replica(redis.url, directory) as (pid, port):
                await measure_viewers(
                    pid, port, store, viewers=viewers, seconds=seconds
                )
                for path, body in (("/tasks", PLAIN), ("/v1/responses", BODY)):
                    await measure_submits(
                        pid, port, path=path, body=body, seconds=seconds
                    )
            await store.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    asyncio.run(main(given.viewers, given.seconds))
