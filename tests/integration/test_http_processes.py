"""Real processes: the HTTP service or a worker dies while a client reads a stream."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from conversations.json_value import JsonObject
from tests.integration.test_endpoint_secrets import kept_in_redis
from tests.stand import RunningWorker, Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply, Script
from workers.llm.reply import Reply

pytestmark = pytest.mark.timeout(120)
START_SECONDS = 30.0
DELTA = "response.output_text.delta"
TEXT = " ".join(f"word{n}" for n in range(40))
DRIPPING = HttpReply(text=TEXT, drip_seconds=0.05)


@dataclass
class Replica:
    """A process of the HTTP service."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(20)


def start_replica(stand: Stand, name: str) -> Replica:
    log = stand.directory / f"http-{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.http"],
            cwd=stand.directory,
            env={**stand.variables(), "CELERIAC_HTTP__PORT": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    replica = Replica(process, log)

    def started() -> bool:
        assert process.poll() is None, log.read_text()
        found = re.search(r"running on (http://[\d.:]+)", log.read_text())
        replica.url = found[1] if found else ""
        return found is not None

    wait_until(started, START_SECONDS, log.read_text)
    return replica


@asynccontextmanager
async def replicas(
    stand: Stand, count: int
) -> AsyncIterator[list[tuple[Replica, AsyncOpenAI]]]:
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            replica = await asyncio.to_thread(start_replica, stand, str(number))
            stack.callback(replica.stop)
            client = AsyncOpenAI(
                base_url=f"{replica.url}/v1", api_key="none", max_retries=0
            )
            found.append((replica, await stack.enter_async_context(client)))
        yield found


@asynccontextmanager
async def missed_soon(stand: Stand, model: Script) -> AsyncIterator[RunningWorker]:
    """A worker before a model; its runs go on elsewhere soon after its end."""
    stand.environment["CELERIAC_WORKER__LEASE"] = "2s"
    stand.environment["CELERIAC_WORKER__HEARTBEAT"] = "500ms"
    async with Double(model) as double:
        stand.llm_url = double.url
        yield await asyncio.to_thread(stand.start_worker)


class Held:
    """A model that says the half of its text and the rest when it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def __call__(self, body: JsonObject) -> Reply:
        self.asked += 1
        await self.go.wait()
        return Reply(text=TEXT)


async def collect(stream: Any, seen: list[Any], *, until: str | None = None) -> None:
    async with asyncio.timeout(60):
        async for event in stream:
            seen.append(event)
            if event.type == until:
                return


def shown_text(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


async def test_a_killed_replica_is_left_for_another_and_nothing_is_missed(
    stand: Stand,
) -> None:
    model = Held()
    async with Double(model) as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker)
        async with replicas(stand, 2) as ((first, client), (_, other)):
            seen: list[Any] = []
            stream = await client.responses.create(
                model="assistant", input="hi", background=True, stream=True
            )
            await collect(stream, seen, until="response.in_progress")
            first.stop()
            with pytest.raises((openai.APIError, Exception)):
                await collect(stream, seen)
            model.go.set()
            again = await other.responses.retrieve(
                seen[0].response.id,
                stream=True,
                starting_after=seen[-1].sequence_number,
            )
            await collect(again, seen)
            numbers = [event.sequence_number for event in seen]
            assert numbers == sorted(set(numbers))
            assert seen[-1].type == "response.completed"
            assert shown_text(seen) == TEXT == seen[-1].response.output_text


async def test_a_killed_worker_leaves_the_stream_whole(stand: Stand) -> None:
    model = Held()
    async with (
        missed_soon(stand, model) as worker,
        replicas(stand, 1) as ((_, client),),
    ):
        seen: list[Any] = []
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        await collect(stream, seen, until="response.in_progress")
        async with asyncio.timeout(30):
            while not model.asked:
                await asyncio.sleep(0.01)
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        model.go.set()
        await asyncio.to_thread(stand.start_worker)
        await collect(stream, seen)
        kinds = [event.type for event in seen]
        assert kinds.count("response.in_progress") == 1
        assert kinds[-1] == "response.completed"
        assert shown_text(seen) == TEXT == seen[-1].response.output_text


async def test_text_that_was_seen_before_the_worker_died_is_not_shown_again(
    stand: Stand,
) -> None:
    async with (
        missed_soon(stand, lambda _: DRIPPING) as worker,
        replicas(stand, 1) as ((_, client),),
    ):
        seen: list[Any] = []
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        await collect(stream, seen, until="response.output_text.delta")
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        assert len(shown_text(seen)) < len(TEXT)
        await asyncio.to_thread(stand.start_worker)
        await collect(stream, seen)
        kinds = [event.type for event in seen]
        assert kinds.count("response.output_item.added") == 1
        assert kinds[-1] == "response.completed"
        assert shown_text(seen) == TEXT == seen[-1].response.output_text


async def test_the_answer_is_whole_after_a_replica_and_a_worker_died_in_its_middle(
    stand: Stand,
) -> None:
    async with (
        missed_soon(stand, lambda _: DRIPPING) as worker,
        replicas(stand, 2) as ((first, client), (_, other)),
    ):
        seen: list[Any] = []
        stream = await client.responses.create(
            model="assistant", input="hi", background=True, stream=True
        )
        await collect(stream, seen, until=DELTA)
        first.stop()
        with pytest.raises(Exception):  # noqa: B017, PT011 - of its HTTP library
            await collect(stream, seen)
        response_id, cut = seen[0].response.id, len(shown_text(seen))
        again = await other.responses.retrieve(
            response_id, stream=True, starting_after=seen[-1].sequence_number
        )
        await collect(again, seen, until=DELTA)
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        assert 0 < cut < len(shown_text(seen)) < len(TEXT)
        await asyncio.to_thread(stand.start_worker)
        await collect(again, seen)
        numbers = [event.sequence_number for event in seen]
        assert numbers == sorted(set(numbers))
        assert seen[-1].type == "response.completed"
        assert shown_text(seen) == TEXT == seen[-1].response.output_text
        whole = await other.responses.retrieve(response_id, stream=True)
        replayed: list[Any] = []
        await collect(whole, replayed)
        assert replayed == seen


CHAT: dict[str, Any] = {
    "model": "assistant",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "extra_headers": {"Idempotency-Key": "once"},
}


async def chat_text(
    client: AsyncOpenAI, begun: Callable[[], None] = lambda: None
) -> tuple[str, str]:
    """What a chat stream shows, and its error; `begun` is called at its first text."""
    shown = ""
    try:
        async for chunk in await client.chat.completions.create(**CHAT):
            text = chunk.choices[0].delta.content or ""
            if text and not shown:
                await asyncio.to_thread(begun)
            shown += text
    except openai.APIError as exc:
        return shown, str(exc)
    return shown, ""


@pytest.mark.parametrize("again", [TEXT, "It is another text now."])
async def test_a_chat_whose_worker_died_shows_its_answer_once_or_says_so(
    stand: Stand, again: str
) -> None:
    said = chain([TEXT], repeat(again))
    async with missed_soon(
        stand, lambda _: HttpReply(text=next(said), drip_seconds=0.05)
    ) as worker:

        def replace() -> None:
            worker.process.kill()
            worker.process.wait()
            stand.start_worker()

        async with replicas(stand, 1) as ((_, client),), asyncio.timeout(60):
            shown, error = await chat_text(client, replace)
            later = await chat_text(client)
            assert later == (again, "")
            if again == TEXT:
                assert (shown, error) == later
                return
            assert 0 < len(shown) < len(TEXT)
            assert TEXT.startswith(shown)
            found = re.search(r"resp_\w+", error)
            assert found is not None, error
            stored = await client.responses.retrieve(found[0])
            assert stored.output_text == again


async def test_what_is_deleted_over_http_is_nowhere(stand: Stand) -> None:
    async with Double(lambda _: "canary answer") as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker)
        async with replicas(stand, 1) as ((_, client),):
            talk = await client.conversations.create(metadata={"of": "canary"})
            ids = [talk.id]
            for fields in ({"conversation": talk.id}, {}):
                response = await client.responses.create(
                    model="assistant",
                    input="canary question",
                    extra_headers={"Idempotency-Key": f"canary-{len(ids)}"},
                    **fields,
                )
                ids.append(response.id.removeprefix("resp_"))
            follower = await client.responses.create(
                model="assistant",
                input="canary again",
                previous_response_id=f"resp_{ids[2]}",
            )
            ids.append(follower.id.removeprefix("resp_"))
            assert "canary" in kept(stand)
            for name in (ids[1], ids[3], ids[2]):
                await client.responses.delete(f"resp_{name}")
            await client.conversations.delete(talk.id)
            left = kept(stand)
            anew = await client.responses.create(
                model="assistant",
                input="another question",
                extra_headers={"Idempotency-Key": "canary-2"},
            )
            assert anew.id.removeprefix("resp_") not in ids
    assert "canary" not in left
    assert [name for name in ids[1:] if name in left] == []


def kept(stand: Stand) -> str:
    """All that Redis holds, as text.

    But for idempotency keys, whose values name a task, its request's hash and no more.
    """
    return "".join(each for each in kept_in_redis(stand) if ":idempotency:" not in each)
