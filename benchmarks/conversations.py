"""What appends, windows, forks and exports cost, by the length of the history.

Run: python benchmarks/conversations.py [--lengths 10 1000 100000] [--rounds 300]

Starts a Redis of its own (redis-server on PATH) on a unix socket, with AOF off, and
prints medians in milliseconds; the last columns compare with the shortest history.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

if Path(sys.path[0]) == Path(__file__).parent:
    del sys.path[0]  # run as a script: its own name would hide the package

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError, ConnectionError

from conversations import ConversationConfig, Message, Role
from conversations.redis_store import RedisConversationStore
from conversations.stored_service import StoredConversationService
from conversations.window import estimate_tokens

TEXT = ("A lost task is found again by the sweeper, which rings for it. " * 8)[:500]
UNLIMITED = ConversationConfig(max_messages=None, context_window=50)
BATCH = 500


@contextmanager
def own_redis() -> Iterator[str]:
    """A Redis that only this run uses."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        sys.exit("no redis-server on PATH; install one")
    with tempfile.TemporaryDirectory(prefix="clc-") as directory:
        socket = Path(directory) / "redis.sock"
        arguments = ["--port", "0", "--unixsocket", str(socket), "--dir", directory]
        arguments += ["--save", "", "--appendonly", "no"]
        process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL)
        try:
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(10)


def connect(url: str) -> Redis:
    retry = Retry(ConstantBackoff(0.05), 200)
    return Redis.from_url(
        url,
        decode_responses=True,
        retry=retry,
        retry_on_error=[ConnectionError, BusyLoadingError],
    )


async def median_ms(call: Callable[[], Awaitable[object]], rounds: int) -> float:
    """Median of some calls, after a few that do not count."""
    taken: list[float] = []
    for number in range(rounds + 5):
        started = perf_counter()
        await call()
        if number >= 5:
            taken.append((perf_counter() - started) * 1000)
    return statistics.median(taken)


async def once_ms(call: Awaitable[object]) -> float:
    started = perf_counter()
    await call
    return (perf_counter() - started) * 1000


def exchange(number: int) -> Message:
    role = Role.USER if number % 2 == 0 else Role.ASSISTANT
    return Message(role=role, content=f"{number} {TEXT}")


async def grow(service: StoredConversationService, name: str, length: int) -> None:
    await service.create(conversation_id=name, config=UNLIMITED)
    for start in range(0, length, BATCH):
        numbers = range(start, min(length, start + BATCH))
        await service.add_messages(name, [exchange(number) for number in numbers])


async def measure(client: Redis, length: int, rounds: int) -> dict[str, float]:
    service = StoredConversationService(RedisConversationStore(client))
    name = f"long-{length}"
    before = (await client.info("memory"))["used_memory"]
    await grow(service, name, length)
    used = (await client.info("memory"))["used_memory"] - before
    size = len(exchange(0).model_dump_json(exclude_defaults=True))
    figures = {"bytes/JSON": used / (length * size)}
    figures["ping"] = await median_ms(client.ping, rounds)
    message = exchange(1)
    figures["append"] = await median_ms(
        lambda: service.add_message(name, message), rounds
    )
    figures["window"] = await median_ms(lambda: service.window(name), rounds)
    at = (await service.get(name)).last_seq
    figures["fork"] = await once_ms(service.fork(name, new_id=f"fork-{length}"))
    near = service.fork(name, at=at - 2, new_id=f"near-{length}")
    figures["fork -2"] = await once_ms(near)
    half = service.fork(name, at=at // 2, new_id=f"half-{length}")
    figures["fork 1/2"] = await once_ms(half)
    lines: list[str] = []

    async def export() -> None:
        lines.extend([line async for line in service.export_lines(name)])

    figures["export"] = await once_ms(export())
    figures["import"] = await once_ms(
        service.import_lines(lines, conversation_id=f"copy-{length}")
    )
    return figures


def show(lengths: Sequence[int], rows: Sequence[dict[str, float]]) -> None:
    names = list(rows[0])
    print("messages  " + "".join(f"{name:>11}" for name in names), end="")
    print("   append x  window x")
    for length, row in zip(lengths, rows, strict=True):
        print(
            f"{length:>8}  " + "".join(f"{row[name]:>11.3f}" for name in names), end=""
        )
        ratios = [row[name] / rows[0][name] for name in ("append", "window")]
        print(f"{ratios[0]:>11.2f}{ratios[1]:>10.2f}")
    tokens = estimate_tokens(exchange(0))
    print(
        f"\nMedians in ms; one message: {len(TEXT)} characters, about {tokens} tokens."
    )
    print("ping is one round trip; bytes/JSON is Redis memory by the messages' JSON.")
    print("A window of 10 messages holds 10 of them, of longer histories 50.")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[10, 100, 1000, 100_000]
    )
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    rows = []
    with own_redis() as url:
        client = connect(url)
        for length in given.lengths:
            rows.append(await measure(client, length, given.rounds))
        await client.aclose()
    show(given.lengths, rows)


if __name__ == "__main__":
    asyncio.run(main())
