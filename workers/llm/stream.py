"""One answer of an endpoint as JSON payloads: server-sent events or one document.

Owns the limits of a call, time and bytes; what the payloads mean is the parser's
affair.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import aiohttp
import httpx

from workers.errors import LLMUnavailable, MalformedCompletion
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.error_mapping import error_from, failure_in
from workers.llm.waits import used_up_seconds

T = TypeVar("T")

_DONE = b"[DONE]"
_DRAIN_SECONDS = 0.1
"""After the last event, for the end of the body: then the connection is reused."""
_KEPT_BYTES = 2048
"""Of what came, for the error."""
FOREIGN_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)
"""What httpx on aiohttp raises; not all of aiohttp's errors are mapped to httpx's."""


class CallClock:
    """The time limits of one call."""

    def __init__(self, endpoint: Endpoint, *, total_seconds: float) -> None:
        self._endpoint = endpoint
        self._total = total_seconds
        self._now = asyncio.get_running_loop().time
        self._started_at = self._now()

    def elapsed_seconds(self) -> float:
        """Since the call began."""
        return self._now() - self._started_at

    async def bound(self, awaitable: Awaitable[T], until_seconds: float) -> T:
        """Await at most until so many seconds after the call's begin, or its total.

        Raises:
            LLMUnavailable: the time is up.
        """
        limit = min(until_seconds, self._total)
        try:
            async with asyncio.timeout_at(self._started_at + limit):
                return await awaitable
        except TimeoutError as exc:
            raise LLMUnavailable(
                f"{self._endpoint.base_url} did not answer in time (gave up after"
                f" {limit:.4g} s); use a faster model or raise the limits of the call",
                endpoint=self._endpoint.base_url,
            ) from exc


class Answer:
    """A response whose status is good; its payloads can be read once."""

    def __init__(
        self,
        response: httpx.Response,
        *,
        endpoint: Endpoint,
        model: str,
        limits: CallLimits,
        clock: CallClock,
    ) -> None:
        self.ended = False
        """Whether the endpoint said that this was all."""
        self._response = response
        self._endpoint = endpoint
        self._model = model
        self._limits = limits
        self._clock = clock
        self._body = response.aiter_bytes()
        self._until = limits.first_byte_seconds
        self._size = 0
        self._kept = b""
        self._media_type = _media_type(response)
        self._is_stream = self._media_type == "text/event-stream"
        if not self._is_stream:
            self._until = float("inf")
        self._lines = _Lines()
        self._pending: Iterator[bytes] = iter(())
        self._understood = False

    @property
    def endpoint_wait_seconds(self) -> float | None:
        """How long the endpoint says that it will take nothing more."""
        return used_up_seconds(self._response.headers)

    @property
    def kept(self) -> str:
        """The first 2 kB of what came, without secrets."""
        return self._endpoint.scrub(self._kept.decode("utf-8", "replace"))

    async def next_payload(self) -> dict[str, object] | None:
        """Return the next event of a stream, or the one document; None at the end.

        Raises:
            LLMError: what came is no JSON object, carries an error, is too large,
                too slow, or breaks off.
        """
        if self._is_stream:
            return await self._next_event()
        if self.ended:
            return None
        self.ended = True
        return await self._document()

    async def _document(self) -> dict[str, object]:
        chunks: list[bytes] = []
        try:
            while chunk := await self._next_chunk():
                chunks.append(chunk)
                if "json" not in self._media_type and self._media_type:
                    raise self._malformed(f"sent {self._media_type} instead of JSON")
        except FOREIGN_ERRORS as exc:
            raise self._malformed("broke off in mid-answer") from exc
        return self._parse(b"".join(chunks))

    async def _next_event(self) -> dict[str, object] | None:
        while True:
            for data in self._pending:
                if data == _DONE:
                    self.ended = True
                elif not self.ended:
                    self._understood = True
                    return self._parse(data)
            if not await self._read_lines():
                return None

    async def _read_lines(self) -> bool:
        """Read on; False at the end, be it a clean one or not."""
        try:
            chunk = await self._next_chunk()
        except FOREIGN_ERRORS:
            return False  # it may have said its finish; the parser knows
        except LLMUnavailable:
            if self.ended:
                return False
            raise
        self._pending = self._lines.feed(chunk)
        if not chunk:
            self.ended = self.ended or self._lines.rest() == _DONE
            if self._kept and not (self._understood or self.ended):
                raise self._malformed("sent a stream without one event of data")
        return bool(chunk)

    async def _next_chunk(self) -> bytes:
        chunk = await self._clock.bound(anext(self._body, b""), self._until)
        pause = _DRAIN_SECONDS if self.ended else self._limits.idle_seconds
        self._until = self._clock.elapsed_seconds() + pause
        self._size += len(chunk)
        if len(self._kept) < _KEPT_BYTES:
            self._kept += chunk[: _KEPT_BYTES - len(self._kept)]
        if self._size > self._limits.max_bytes:
            raise self._malformed(f"sent more than {self._limits.max_bytes} bytes")
        return chunk

    def _parse(self, data: bytes) -> dict[str, object]:
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise self._malformed("sent what is not JSON") from exc
        if not isinstance(payload, dict):
            raise self._malformed(
                f"sent JSON of type {type(payload).__name__} instead of an object"
            )
        failure = failure_in(payload, body=self.kept)
        if failure is not None:
            raise error_from(failure, endpoint=self._endpoint, model=self._model)
        return payload

    def _malformed(self, what: str) -> MalformedCompletion:
        return MalformedCompletion(
            f"{self._endpoint.base_url} {what}; set OPENAI_BASE_URL to an endpoint"
            " that speaks Chat Completions",
            endpoint=self._endpoint.base_url,
            status=self._response.status_code,
            body=self.kept,
        )


class _Lines:
    """Splits a stream of bytes into the data of its events, one line each.

    Every server of this API sends an event on one line, some without the blank line.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if b"\n" not in chunk:
            self._parts.append(chunk)
            return iter(())
        *lines, rest = b"".join((*self._parts, chunk)).split(b"\n")
        self._parts = [rest]
        return filter(None, map(_data, lines))

    def rest(self) -> bytes:
        return _data(b"".join(self._parts))


def _data(line: bytes) -> bytes:
    text = line.strip().removeprefix(b"\xef\xbb\xbf")
    if text.startswith(b"data:"):
        return text[5:].strip()
    return text if text.startswith(b"{") else b""  # an error, written as it was


def _media_type(response: httpx.Response) -> str:
    header: str = response.headers.get("content-type", "")
    return header.partition(";")[0].strip().lower()
