"""Whatever an endpoint answers to the doctor is one sentence and an exit code."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.cli.endpoint_report import ask_endpoint
from tests.integration.llm_serving import KEY
from tests.integration.test_endpoint_bodies import JSON, head, raw_server
from workers.llm.double_script import FAULTS, http_reply
from workers.llm.endpoint import Endpoint
from workers.llm.probe import EndpointReport, probe
from workers.llm.small_answer import MOST_BYTES

USABLE, UNAVAILABLE, CONFIGURE = 0, 69, 78


async def probed(url: str, seconds: float = 30.0) -> EndpointReport:
    """A report that can be printed, with its remedy in one line and without the key."""
    endpoint = Endpoint(base_url=url, api_key=SecretStr(KEY))
    report = await probe(endpoint, model="m", timeout_seconds=seconds)
    text = report.model_dump_json()
    assert KEY not in text
    lines = (*report.advice, report.remedy)
    assert all(len(line) < 700 and "\n" not in line for line in lines)
    assert bool(report.remedy) is not report.usable
    return report


async def endlessly(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b'{"id": "x"},' * 10_000)
        await writer.drain()


async def silently(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "no JSON": ("200 OK", b"{nope", CONFIGURE, "no model endpoint"),
    "HTML": ("200 OK", b"<html>hi</html>", CONFIGURE, "no model endpoint"),
    "nothing": ("200 OK", b"", CONFIGURE, "no model endpoint"),
    "a number": ("200 OK", b"1", CONFIGURE, "no model endpoint"),
    "nested deep": ("200 OK", b'{"data":' * 99_999, CONFIGURE, "no model endpoint"),
    "nested in the list": (
        "200 OK",
        b'{"data":[' + b"[" * 99_999 + b"]" * 99_999 + b"]}",
        CONFIGURE,
        "no model endpoint",
    ),
    "no UTF-8": ("200 OK", b'{"data": "\xff\xfe"}', CONFIGURE, "no model endpoint"),
    "Ollama without a model": (
        "200 OK",
        b'{"object": "list", "data": null}',
        CONFIGURE,
        "to one that it has: none yet",
    ),
    "a model without a name": (
        "200 OK",
        b'{"data": [{"id": null}, {"id": 7}, 3, null, {"id": "other"}]}',
        CONFIGURE,
        "one that it has: other",
    ),
    "a name that is no text": (
        "200 OK",
        b'{"data": [{"id": "\\ud800"}]}',
        CONFIGURE,
        "has no model 'm'",
    ),
    "owners of any kind": (
        "200 OK",
        b'{"data": [{"id": "m", "owned_by": ["x"]}]}',
        USABLE,
        "",
    ),
    "a key refused": ("401 No", f"no {KEY}".encode(), CONFIGURE, "refused the API key"),
    "a proxy's login": ("407 No", b"", CONFIGURE, "HTTP 407"),
    "no credit": ("402 No", b"", CONFIGURE, "no credit"),
    "elsewhere": ("302 Found\r\nLocation: /x", b"", CONFIGURE, "redirects"),
    "too many": ("429 No", b"", UNAVAILABLE, "asks to wait"),
    "a server in trouble": ("500 No", b"x" * 99_999, UNAVAILABLE, "HTTP 500"),
    "an error nested deep": ("503 No", b"[" * 99_999, UNAVAILABLE, "HTTP 503"),
    "neither of both": ("404 No", b"", CONFIGURE, "no /models and no"),
}


@pytest.mark.parametrize("row", BODIES)
async def test_any_answer_is_a_sentence_and_an_exit_code(row: str):
    status, body, code, words = BODIES[row]
    async with raw_server(head(JSON, status=status), body) as url:
        report = await probed(url)
    assert report.exit_code == code
    assert words in report.remedy


@pytest.mark.parametrize("start", [b'{"data": [', b"", b'{"models": ['])
async def test_an_endless_answer_is_left_in_little_memory(start: bytes):
    tracemalloc.start()
    try:
        async with raw_server(head(JSON), start, after=endlessly) as url:
            report = await probed(url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.exit_code == CONFIGURE
    assert f"more than {MOST_BYTES} bytes" in report.remedy
    assert peak < 4 * MOST_BYTES


async def test_a_compressed_bomb_is_left_too():
    bomb = gzip.compress(b" " * 256 * 1024 * 1024)
    async with raw_server(head(JSON, "gzip"), bomb) as url:
        assert "more than" in (await probed(url)).remedy


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
async def test_an_answer_that_drips_ends_with_the_time_limit(status: str):
    async with raw_server(head(JSON, status=status), b"", after=silently) as url:
        report = await probed(url, seconds=0.5)
    assert report.exit_code == UNAVAILABLE
    assert "did not answer within 0.5 s" in report.remedy


@pytest.mark.parametrize("encoding", ["br", "gzip", "nonsense"])
async def test_what_is_not_as_it_is_encoded_is_told(encoding: str):
    async with raw_server(head(JSON, encoding), b"{}") as url:
        assert (await probed(url)).exit_code == UNAVAILABLE


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_of_the_kit_is_a_sentence_and_an_exit_code(fault: str):
    """Sent to every question, be it for the models or for a completion."""
    reply: Any = http_reply({"fault": fault})
    whole = json.dumps({"choices": [{"message": {"content": reply.text}}]})
    body = (reply.body or whole).encode()
    fields = [f"{name}: {value}" for name, value in reply.headers.items()]
    lines = "\r\n".join((f"{reply.status} X", *fields))
    slow = silently if reply.hang or reply.drip_seconds else None
    cut = len(body) // 2 if reply.cut_after else len(body)
    answer = b"" if reply.refuse else body[:cut]
    padding = b" " * min(reply.padding_bytes, 2 * MOST_BYTES)
    async with raw_server(
        lines, None if reply.hang else padding + answer, after=slow
    ) as url:
        report = await probed(url, seconds=0.5 if slow else 30.0)
    assert report.exit_code in (UNAVAILABLE, CONFIGURE)


async def test_the_doctor_says_what_is_wrong_with_settings_that_ask_nobody() -> None:
    files = {"CELERIAC_LLM__CA_FILE": "/none.pem"}
    report = await ask_endpoint({"OPENAI_BASE_URL": "https://127.0.0.1:9/v1", **files})
    assert str(report) == "not asked"
    assert report.remedy.startswith("ca_file of https://127.0.0")
