"""What becomes of connections to servers, and where requests go by them."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct

import pytest

from tests.integration.llm_serving import ask, streaming
from tests.integration.odd_server import (
    DONE,
    JSON,
    SSE,
    WHOLE,
    answer,
    outcome,
    provider_of,
    sending,
    server,
)
from workers.errors import LLMUnavailable, RequestRejected


@streaming
async def test_a_connection_reset_on_reuse_costs_no_attempt(stream: bool):
    """Nothing of an answer had come, and the server takes its requests anew."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        if number == 2:
            writer.transport.abort()
        else:
            writer.write(answer(DONE, SSE) if stream else answer(WHOLE, JSON))
        return number == 1

    assert await outcome(behave, stream, calls=4) == ["hi"] * 4


async def test_a_request_that_was_taken_before_the_server_went_was_sent():
    """Its second sending finds nobody; the first may have been paid for."""
    listeners: list[asyncio.Server] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        listeners[0].close()
        writer.close()

    listeners.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    port = listeners[0].sockets[0].getsockname()[1]
    async with provider_of(f"http://127.0.0.1:{port}/v1") as provider:
        with pytest.raises(LLMUnavailable, match="no LLM endpoint answers") as taken:
            await ask(provider)
        with pytest.raises(LLMUnavailable, match="no LLM endpoint answers") as refused:
            await ask(provider)
    assert (taken.value.was_sent, refused.value.was_sent) == (True, False)


async def test_a_connection_that_is_reset_while_it_is_idle_is_no_error_of_anybodys(
    caplog: pytest.LogCaptureFixture,
):
    reset = asyncio.Event()

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        whole = answer(WHOLE, JSON)
        writer.write(whole[:-5])
        await asyncio.sleep(0.05)  # so that its body comes after its head
        writer.write(whole[-5:])
        if reset.is_set():
            return True
        await reset.wait()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        writer.transport.abort()
        return False

    async with (
        server(behave) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        assert (await ask(provider)).message.content == "hi"
        reset.set()
        await asyncio.sleep(0.05)  # the client's end has it
        assert (await ask(provider)).message.content == "hi"
        gc.collect()
    assert "never retrieved" not in caplog.text


async def test_half_of_a_head_on_reuse_is_not_asked_again_unseen():
    """The request may have been taken: who asks again is the task's affair."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(answer(WHOLE, JSON) if number == 1 else b"HTTP/1.1 20")
        return number == 1

    found = await outcome(behave, stream=False, calls=2)
    assert found == ["hi", LLMUnavailable]


async def test_a_second_answer_to_one_request_is_nobodys():
    other = answer(WHOLE.replace(b"hi", b"of another"), JSON)

    async def behave(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(answer(WHOLE, JSON) + other)
        return True

    found = await outcome(behave, stream=False, calls=3)
    assert found[0] == "hi"
    assert "of another" not in found


async def test_an_answer_that_nobody_asked_for_is_nobodys():
    """It comes while the connection waits for its next request."""
    other = answer(WHOLE.replace(b"hi", b"of another"), JSON)
    idle, sent = asyncio.Event(), asyncio.Event()

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(answer(WHOLE, JSON))
        if number == 1 and not sent.is_set():
            await idle.wait()
            writer.write(other)
            await writer.drain()
            sent.set()
        return True

    async with (
        server(behave) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        assert (await ask(provider)).message.content == "hi"
        idle.set()
        await sent.wait()
        await asyncio.sleep(0.05)  # the client's end has it
        assert (await ask(provider)).message.content == "hi"


async def test_no_cookie_goes_from_one_call_to_the_next():
    async def behave(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(answer(WHOLE, JSON, "set-cookie: session=one; path=/"))
        return True

    async with (
        server(behave) as (port, heads),
        provider_of(f"http://localhost:{port}/v1") as provider,
    ):
        for _ in range(3):
            await ask(provider)
    assert len(heads) == 3
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_key_follows_a_redirect(status: int):
    async with server(sending(answer(WHOLE, JSON))) as (other, asked):
        place = f"location: http://127.0.0.1:{other}/v1/chat/completions"
        raw = answer(b"", place, status=f"{status} X")
        assert await outcome(sending(raw), stream=False) == [RequestRejected]
    assert not asked


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("http://127.0.0.1:{}", b"/chat/completions"),
        ("http://127.0.0.1:{}/v1/", b"/v1/chat/completions"),
        ("http://127.0.0.1:{}/a/b%20c//", b"/a/b%20c/chat/completions"),
        ("HTTP://localhost:{}/v1", b"/v1/chat/completions"),
        ("http://[::1]:{}/v1", b"/v1/chat/completions"),
    ],
)
async def test_an_address_is_called_as_it_is_written(base: str, path: bytes):
    host = "::1" if "[" in base else "127.0.0.1"
    with socket.socket(socket.AF_INET6 if "[" in base else socket.AF_INET) as look:
        try:
            look.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
    async with (
        server(sending(answer(WHOLE, JSON)), host) as (port, heads),
        provider_of(base.format(port)) as provider,
    ):
        assert (await ask(provider)).message.content == "hi"
    assert heads[0].split()[1] == path
