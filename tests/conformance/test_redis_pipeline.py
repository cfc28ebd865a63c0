"""Commands of many coroutines in one round trip, against a real Redis."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from orchestrator.errors import WrongLoop
from orchestrator.redis_connection import connect
from orchestrator.redis_joint import Head, packed_parts
from orchestrator.redis_line import Sending
from orchestrator.redis_pipeline import (
    LANES,
    MAX_BYTES,
    MAX_COMMANDS,
    WEIGHT_OF_JOINABLE,
    SharedPipeline,
)


class Watched(SharedPipeline):
    """Notes the size of each batch."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.sizes: list[int] = []

    def _take(self) -> list[Sending]:
        batch = super()._take()
        if batch:
            self.sizes.append(sum(len(each.commands) for each in batch))
        return batch


async def test_each_caller_gets_its_own_answers_in_few_round_trips(
    client: Redis,
) -> None:
    pipeline = Watched(client)
    answers = await asyncio.gather(
        *(
            pipeline.execute([("SET", f"k{n}", n), ("GET", f"k{n}")])
            for n in range(1000)
        )
    )
    assert answers == [["OK", str(n)] for n in range(1000)]
    assert max(pipeline.sizes) <= MAX_COMMANDS
    assert len(pipeline.sizes) <= 2000 / MAX_COMMANDS + 2 * LANES


async def test_calls_that_may_be_one_are_few_and_go_in_small_batches(
    client: Redis,
) -> None:
    taken: list[int] = []

    class Counting(SharedPipeline):
        def _take(self) -> list[Sending]:
            batch = super()._take()
            taken.append(len(batch))
            return batch

    pipeline, words = Counting(client), ("EVAL", "return ARGV", 0)
    head = Head(len(words), packed_parts(words))
    before = (await client.info("commandstats")).get("cmdstat_eval", {"calls": 0})
    answers = await asyncio.gather(*(pipeline.send_joint(head, [n]) for n in range(90)))
    after = (await client.info("commandstats"))["cmdstat_eval"]
    assert answers == [[str(n)] for n in range(90)]
    assert max(taken) == MAX_COMMANDS // WEIGHT_OF_JOINABLE
    assert after["calls"] - before["calls"] <= 90 // max(taken) + LANES


async def test_no_command_is_left_behind_when_batches_end(client: Redis) -> None:
    pipeline = SharedPipeline(client)

    async def caller(number: int) -> None:
        for turn in range(20):
            text = f"{number}-{turn}"
            assert await pipeline.execute([("ECHO", text)]) == [text]
            for _ in range((number + turn) % 5):  # together with others, or between
                await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(20)))


async def test_a_refused_command_is_its_callers_own_affair(client: Redis) -> None:
    pipeline = SharedPipeline(client)
    await client.set("text", "x")
    refused, fine = await asyncio.gather(
        pipeline.execute([("INCR", "text")]), pipeline.execute([("INCR", "number")])
    )
    assert isinstance(refused[0], ResponseError)
    assert fine == [1]


async def test_what_cannot_be_written_is_its_callers_own_error(client: Redis) -> None:
    pipeline = SharedPipeline(client)
    before, text, nothing, after = await asyncio.gather(
        pipeline.execute([("INCR", "n")]),
        pipeline.execute([("ECHO", "\ud800")]),
        pipeline.execute([("ECHO", None)]),  # type: ignore[list-item]
        pipeline.execute([("INCR", "n")]),
        return_exceptions=True,
    )
    assert (before, after) == ([1], [2])
    assert isinstance(text, UnicodeEncodeError)
    assert isinstance(nothing, TypeError)


async def test_callers_share_a_round_trip_only_while_it_is_small(
    client: Redis,
) -> None:
    pipeline = Watched(client)
    large = "x" * (MAX_BYTES // 2 - 1000)
    answers = await asyncio.gather(
        *(pipeline.execute([("ECHO", large)]) for _ in range(6)),
        pipeline.execute([("ECHO", large), ("ECHO", large), ("ECHO", large)]),
    )
    assert answers == [[large]] * 6 + [[large] * 3]
    assert sorted(pipeline.sizes)[-2:] == [2, 3]  # what is one caller's goes together


async def test_a_cancelled_caller_takes_nobody_with_it(client: Redis) -> None:
    pipeline = SharedPipeline(client)
    cancelled = asyncio.create_task(pipeline.execute([("INCR", "a")]))
    other = asyncio.create_task(pipeline.execute([("INCR", "b")]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == [1]
    assert await pipeline.execute([("GET", "b")]) == ["1"]
    assert cancelled.cancelled() or (await asyncio.wait({cancelled}))[0]


async def test_without_a_server_every_caller_is_told() -> None:
    client = connect("redis://127.0.0.1:9/0")
    pipeline = SharedPipeline(client)
    try:
        results = await asyncio.gather(
            *(pipeline.execute([("PING",)]) for _ in range(5)), return_exceptions=True
        )
    finally:
        await client.aclose()
    assert all(isinstance(each, RedisConnectionError) for each in results)


async def test_another_event_loop_is_told_instead_of_waiting_for_ever(
    client: Redis,
) -> None:
    pipeline = SharedPipeline(client)
    await pipeline.execute([("PING",)])
    with pytest.raises(WrongLoop, match="AsyncOrchestrator was used on another"):
        await asyncio.to_thread(asyncio.run, pipeline.execute([("PING",)]))
    assert await pipeline.execute([("PING",)]) == ["PONG"]


async def test_who_comes_alone_is_served_at_once_and_a_crowd_together(
    client: Redis,
) -> None:
    """What is written at once waits for no turn of the loop, and is in no batch."""
    pipeline = Watched(client)
    for number in range(5):
        assert await pipeline.execute([("ECHO", f"{number}")]) == [f"{number}"]
    assert pipeline.sizes == [1]
    crowd = [pipeline.execute([("ECHO", f"{n}"), ("INCR", "n")]) for n in range(50)]
    answers = await asyncio.gather(*crowd)
    assert [answer[0] for answer in answers] == [f"{n}" for n in range(50)]
    assert sorted(answer[1] for answer in answers) == list(range(1, 51))
    assert sum(pipeline.sizes[1:]) >= 2 * (50 - LANES)
    assert len(pipeline.sizes) <= 2 + LANES
    await asyncio.gather(*(pipeline.execute([("INCR", "n")]) for _ in range(50)))
    assert sum(pipeline.sizes[1:]) >= 2 * (50 - LANES) + 50
