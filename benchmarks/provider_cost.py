"""What the provider adds to its transport: processor time of a call and of a token.

`python -m benchmarks.provider_cost [pairs] [in flight]`. The model answers after 0.2 s
from a process of its own. Pairs of rounds, one with aiohttp alone (a body that is
ready is posted, the answer read) and one with the provider (a request becomes a body,
the answer a checked completion). Who begins a pair changes, so that a machine that gets
busier treats both alike; told are the medians, and of the pairs' ratios the median and
the middle half. The garbage collector is set as workers set it, for both.
Streams: fifty at once, 200 tokens each, one token a chunk, 10 ms between two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from time import process_time

import aiohttp

from benchmarks.endpoint import TOKENS
from benchmarks.gate_cost import an_endpoint
from conversations.message import Message
from orchestrator.collector import spare_the_collector
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.provider import CompletionRequest

ASKED = CompletionRequest(messages=(Message(role="user", content="hello " * 50),))
STREAMED = ASKED.model_copy(update={"model": "tokens"})
STREAMS = 50

Call = Callable[[], Awaitable[object]]


async def cpu_of(call: Call, times: int) -> float:
    """Return seconds of processor time that a call takes, with so many in flight."""
    began = process_time()
    await asyncio.gather(*(call() for _ in range(times)))
    return (process_time() - began) / times


async def main(pairs: int, in_flight: int) -> None:
    async with (
        an_endpoint() as url,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session,
    ):
        provider = ChatCompletionsProvider(url, model="m")
        address = f"{url}/chat/completions"
        messages = [{"role": "user", "content": "hello " * 50}]
        body = json.dumps({"model": "m", "messages": messages}).encode()
        streaming = {"model": "tokens", "messages": messages, "stream": True}
        stream_body = json.dumps(streaming).encode()
        headers = {"content-type": "application/json"}

        async def bare() -> None:
            async with session.post(address, data=body, headers=headers) as answer:
                await answer.read()

        async def whole() -> None:
            await provider.complete(ASKED)

        async def bare_stream() -> None:
            async with session.post(address, data=stream_body) as answer:
                async for _ in answer.content.iter_chunked(16384):
                    pass

        async def stream() -> None:
            async for _ in provider.stream(STREAMED):
                pass

        for call in (bare, whole):  # connections
            await cpu_of(call, in_flight)
        spare_the_collector()
        costs = await pairs_of(bare, whole, in_flight, pairs)
        tell("call", costs, 1e3, "ms")
        streams = await pairs_of(bare_stream, stream, STREAMS, max(2, pairs // 3))
        tell("streamed token", streams, 1e6 / TOKENS, "us")
        await provider.aclose()


async def pairs_of(
    one: Call, other: Call, times: int, pairs: int
) -> list[tuple[float, float]]:
    """Return what both calls cost in each pair."""
    costs = []
    for number in range(pairs):
        order = (one, other) if number % 2 == 0 else (other, one)
        cost = {call: await cpu_of(call, times) for call in order}
        costs.append((cost[one], cost[other]))
    return costs


def tell(what: str, costs: list[tuple[float, float]], scale: float, unit: str) -> None:
    bare = median(pair[0] for pair in costs) * scale
    ours = median(pair[1] for pair in costs) * scale
    low, middle, high = quantiles((b / a for a, b in costs), method="inclusive")
    print(
        f"{what}: aiohttp {bare:.3f} {unit}, provider {ours:.3f} {unit},"
        f" ratio {middle:.2f} (half of {len(costs)} pairs: {low:.2f} to {high:.2f})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.provider_cost")
    parser.add_argument("pairs", type=int, nargs="?", default=24)
    parser.add_argument("in_flight", type=int, nargs="?", default=1000)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.pairs, arguments.in_flight))
