"""Bytes that are no plain request: two readings, other protocols, what drips in."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from orchestrator.http import server
from tests.http_service import serving
from tests.integration.http_doors import (
    get,
    keys,
    raw,
    service,
)


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


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tasks/../tasks", 404),
        ("/tasks/%2e%2e/agents", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/tasks/%00", 404),
        ("/tasks/x%0d%0aSet-Cookie:a=b", 404),
        ("//evil.example/tasks", 404),
        ("/tasks/" + "x" * 9000, 414),
        ("/agents/" + "x" * 300, 422),
        ("/v1", 404),
        ("/TASKS", 404),
        ("/tasks/", 404),
    ],
)
async def test_tricks_with_paths_lead_nowhere(path: str, status: int) -> None:
    async with service() as (running, _):
        answer = await raw(running.url, get(path))
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        assert b"set-cookie" not in answer.lower().partition(b"\r\n\r\n")[0]
        assert b"passwd" not in answer


async def test_headers_are_not_echoed_into_the_answer() -> None:
    async with service() as (running, client):
        answer = await client.get("/agents", headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        answer = await client.get("/agents", headers={"x-request-id": "a b<script>"})
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        broken = await raw(running.url, get("/agents", "X-A: b\rSet-Cookie: a=b"))
        assert b"set-cookie" not in broken.lower()
        both = await raw(
            running.url,
            get("/agents", "Content-Length: 4", "Transfer-Encoding: chunked"),
        )
        assert both.startswith(b"HTTP/1.1 400")


async def test_a_slow_client_is_cut_off_while_others_are_served() -> None:
    # The healthy client shares the loop and its pauses: the bound must outlast them.
    async with service(header_timeout=2, body_timeout=0.3) as (running, client):
        head = b"POST /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        body = head + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        slow = [
            asyncio.create_task(raw(running.url, given)) for given in (b"", head, body)
        ]
        assert (await client.get("/agents")).status_code == 200
        silent, headless, bodiless = await asyncio.gather(*slow)
        assert (silent, headless) == (b"", b"")
        assert bodiless.startswith(b"HTTP/1.1 408")
        assert (await client.get("/agents")).status_code == 200


async def test_headers_without_end_are_cut_off() -> None:
    async with service() as (running, client):
        endless = b"GET /agents HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        endless += b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(2000))
        try:
            answer = await raw(running.url, endless)
        except ConnectionError:
            answer = b""
        assert answer in (b"",) or answer.startswith(b"HTTP/1.1 400")
        assert (await client.get("/agents")).status_code == 200


CHUNKED = (
    b"POST /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def test_a_trailer_is_no_header() -> None:
    async with service(keys=keys()) as (running, _):
        body = b"2\r\n{}\r\n0\r\nAuthorization: Bearer mine\r\n\r\n"
        assert (await raw(running.url, CHUNKED + body)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "endless",
    [
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 200_000,
        b"2\r\n{}\r\n0\r\nX: " + b"y" * 1_000_000,
        b"2;" + b"y" * 1_000_000,
    ],
    ids=["trailers", "a trailer", "an extension of a chunk"],
)
async def test_what_is_no_body_may_not_go_on_without_end_within_one(
    endless: bytes,
) -> None:
    async with service(body_timeout=30) as (running, client):
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                writer.write(CHUNKED + endless)
                await writer.drain()
                assert await reader.read() == b""
        writer.close()
        assert (await client.get("/agents")).status_code == 200


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    text = "x" * 100_000
    async with serving(lambda _: text, http={"send_timeout": 0.3}) as running:
        handle = await running.celeriac.submit("assistant", {"prompt": "hi"})
        await handle.result(20)
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            path = f"/tasks/{handle.id}/events"
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
        connections = running.servers[0].server_state.connections
        async with asyncio.timeout(20):
            while not connections:
                await asyncio.sleep(0.01)
            while connections:
                await asyncio.sleep(0.01)
        writer.close()
