"""Bytes that are no plain request: two readings, other protocols, what drips in."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from orchestrator.http import server
from tests.integration.test_http_doors import get, keys, raw, service


async def test_a_body_that_nobody_reads_may_not_drip_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "BODY_MARGIN_SECONDS", 0.2)
    async with service(body_timeout=0.1) as (running, _):
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = ["GET /healthz HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 9999"]
        writer.write("\r\n".join([*head, "", ""]).encode())
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            with suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(999), 0.05)
        writer.close()


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.1"], ["a", "b"]])
async def test_a_request_names_one_host(hosts: list[str]) -> None:
    async with service() as (running, _):
        lines = ["GET /agents HTTP/1.1", "Connection: close"]
        lines += [f"Host: {host}" for host in hosts]
        answer = await raw(running.url, "\r\n".join([*lines, "", ""]).encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"invalid_host"' in answer


SMUGGLED = get("/status", "X-Smuggled: 1")
AMBIGUOUS: dict[str, tuple[tuple[str, ...], bytes]] = {
    "two lengths": (("Content-Length: 4", "Content-Length: 5"), b"abcde"),
    "a length with a sign": (("Content-Length: +4",), b"abcd"),
    "a list of lengths": (("Content-Length: 4, 4",), b"abcd"),
    "length and chunks": (
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        b"0\r\n\r\n" + SMUGGLED,
    ),
    "two codings": (
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        b"0\r\n\r\n" + SMUGGLED,
    ),
    "an unknown coding": (("Transfer-Encoding: xchunked",), b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": (
        ("Transfer-Encoding : chunked",),
        b"0\r\n\r\n" + SMUGGLED,
    ),
    "a folded header": (("X-A: a", " Transfer-Encoding: chunked"), b"0\r\n\r\n"),
    "a chunk without a size": (("Transfer-Encoding: chunked",), b"zz\r\nab\r\n"),
    "a NUL in a header": (("X-A: a\0b",), b""),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_a_request_with_two_readings_is_refused_and_ends_its_connection(
    case: str,
) -> None:
    headers, body = AMBIGUOUS[case]
    async with service() as (running, _):
        lines = ["POST /tasks HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        answer = await raw(running.url, "\r\n".join(lines).encode() + body)
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_another_protocol_is_not_begun(protocol: str) -> None:
    upgrade = get("/healthz", f"Upgrade: {protocol}").replace(
        b"Connection: close", b"Connection: upgrade"
    )
    async with service() as (running, _):
        answer = await raw(running.url, upgrade + SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        assert answer.count(b"HTTP/1.1") == 1


async def test_a_form_with_too_many_fields_is_refused() -> None:
    async with service(keys=keys()) as (_, client):
        answer = await client.post("/ui/login", content="&".join(["a=1"] * 1000))
        assert answer.status_code == 422
