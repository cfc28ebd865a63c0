"""One answer of an endpoint as JSON payloads: server-sent events or one document.

Owns the limits of a call, time and bytes; what the payloads mean is the parser's
affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cached_property
from typing import TypeVar

import aiohttp
import httpx
from aiohttp import StreamReader

from conversations.json_value import loads
from conversations.mending import mended
from workers.errors import LLMError, LLMUnavailable, MalformedCompletion
from workers.llm.body import encoding_in, is_known, piece_by_piece
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import Sent
from workers.llm.error_mapping import bare, error_from, failure_in, has_failed
from workers.llm.event_stream import DONE, NOT_JSON, EventStream
from workers.llm.waits import used_up_seconds

T = TypeVar("T")

_DRAIN_SECONDS = 0.1
"""After the last event, for the end of the body: then the connection is reused."""
_NOTHING = object()
_SPACE = b" \t\r\n\xef\xbb\xbf"
_KEPT_BYTES = 2048
"""Of what came, for the error."""
FOREIGN_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)
"""What aiohttp raises, and httpx on top of it."""


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
        except TimeoutError:
            pass
        # Raised out here, without a context: the frames that waited hold the headers.
        raise self._too_late(limit)

    def watch(self, body: StreamReader, *, until_seconds: float) -> Watch:
        """Have the reading of a body fail at that time, or at the call's total."""
        return Watch(self, body, until_seconds)

    def instant(self, until_seconds: float) -> float:
        """Return by the loop's clock when so many seconds, or the total, are over."""
        return self._started_at + min(until_seconds, self._total)

    def _too_late(self, seconds: float) -> LLMUnavailable:
        return LLMUnavailable(
            f"{self._endpoint.base_url} did not answer in time (gave up after"
            f" {seconds:.4g} s); use a faster model or raise the limits of the call",
            endpoint=self._endpoint.base_url,
        )

    def end(self, body: StreamReader, at: float) -> None:
        """Have whoever reads a body learn that its time is up."""
        body.set_exception(self._too_late(at - self._started_at))


class Watch:
    """The time limit of a body: one timer, however often the limit is moved.

    A timer for each piece would cost more than reading it. Only reading is bounded:
    what arrived while the reader did something else is still its own.
    """

    def __init__(self, clock: CallClock, body: StreamReader, until: float) -> None:
        self._clock = clock
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._at = clock.instant(until)
        self._last = clock.instant(float("inf"))
        self._is_reading = False
        self._timer = self._loop.call_at(self._at, self._look)

    def move(self, until_seconds: float) -> None:
        """Set another limit."""
        self._at = self._clock.instant(until_seconds)
        if self._at < self._timer.when():
            self._set()

    def extend(self, seconds: float) -> None:
        """Set a limit of so many seconds from now, or the call's total."""
        self._at = min(self._loop.time() + seconds, self._last)
        if self._at < self._timer.when():
            self._set()

    def begin(self) -> None:
        """Note that a piece of the body is awaited; the limit ends no other time."""
        self._is_reading = True
        if self._timer.when() <= self._loop.time():  # it came due while nobody read
            self._set()

    def pause(self) -> None:
        """Note that it is not."""
        self._is_reading = False

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _set(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        if self._loop.time() < self._at:
            self._set()
        elif self._is_reading:
            self._clock.end(self._body, self._at)


class Answer:
    """A response whose status is good; its payloads can be read once."""

    def __init__(
        self,
        sent: Sent,
        *,
        endpoint: Endpoint,
        model: str,
        limits: CallLimits,
        clock: CallClock,
    ) -> None:
        self.ended = False
        """Whether the endpoint said that this was all."""
        self._sent = sent
        self._headers = sent.response.headers
        self._endpoint = endpoint
        self._model = model
        self._limits = limits
        self._clock = clock
        self._encoding = encoding_in(self._headers)
        self._until = limits.first_byte_seconds
        self._watch: Watch | None = None
        self._size = 0
        self._kept = b""
        self._media_type = _media_type(self._headers)
        self._is_stream = self._media_type == "text/event-stream"
        if not self._is_stream:
            self._until = float("inf")
        self._pending: Iterator[object] = iter(())
        self._first: bytes | None = None
        self._understood = False
        self._is_over = False

    @cached_property
    def _read(self) -> Callable[[], Awaitable[bytes]]:
        """Reads the next piece of the body."""
        return piece_by_piece(self._sent.response.content, self._encoding)

    @cached_property
    def _events(self) -> EventStream:
        return EventStream()

    async def aclose(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        if self._watch is not None:
            self._watch.stop()
        await self._sent.aclose()

    @property
    def endpoint_wait_seconds(self) -> float | None:
        """How long the endpoint says that it will take nothing more."""
        return used_up_seconds(self._headers)

    @property
    def kept(self) -> str:
        """The first 2 kB of what came, without secrets."""
        text = self._kept.decode("utf-8", "replace")
        is_all = self._size == len(self._kept) and self._sent.response.content.at_eof()
        return self._endpoint.scrub(text, is_cut=not is_all)

    async def next_payload(self) -> dict[str, object] | None:
        """Return the next event of a stream, or the one document; None at the end.

        Raises:
            LLMError: what came is no JSON object, carries an error, is too large,
                too slow, or breaks off.
        """
        if not self._size:
            await self._begin()
        if self._is_stream:
            value = await self._next_event()
        elif self.ended:
            return None
        else:
            self.ended = True
            value = await self._document()
        if value is _NOTHING:
            return None
        if isinstance(value, list) and len(value) == 1:
            [value] = value  # Gemini's errors
        if isinstance(value, dict) and not has_failed(value):
            return value
        raise self._error_in(value)

    async def _begin(self) -> None:
        """Refuse what cannot be read; look at what has no type."""
        if not is_known(self._encoding):
            raise self._malformed(
                f"compressed its answer ({self._encoding[:40]}), which was not asked"
                " for"
            )
        if self._media_type or self._first is not None:
            return
        try:
            self._first = await self._next_chunk()
        except FOREIGN_ERRORS as exc:
            raise self._broken_off() from bare(exc, endpoint=self._endpoint)
        self._is_stream = not self._first.lstrip(_SPACE).startswith((b"{", b"["))
        if self._is_stream:
            self._pending = iter(self._events.feed(self._first))

    async def _document(self) -> object:
        if self._media_type and "json" not in self._media_type:
            await self._keep_a_chunk()
            raise self._malformed(f"sent {self._media_type} instead of JSON")
        try:
            return _value_of(self._arrived_text() or await self._text())
        except FOREIGN_ERRORS as exc:
            raise self._broken_off() from bare(exc, endpoint=self._endpoint)

    def _arrived_text(self) -> bytes:
        """Return the body when it came with its head, as small ones do; else nothing.

        What is there takes no time, so it needs no clock.
        """
        content = self._sent.response.content
        if self._encoding or self._first is not None or not content.is_eof():
            return b""
        return self._counted(content.read_nowait())

    async def _text(self) -> bytes:
        chunks = [self._first or b""]
        while chunk := await self._next_chunk():
            chunks.append(chunk)
        return b"".join(chunks)

    async def _keep_a_chunk(self) -> None:
        """Read what the error may show."""
        try:
            await self._next_chunk()
        except FOREIGN_ERRORS:
            return

    async def _next_event(self) -> object:
        while (value := self._next_value()) is _NOTHING:
            if self._is_over:
                self._require_an_event()
                return _NOTHING
            if not await self._read_on():
                return _NOTHING
        return value

    def _next_value(self) -> object:
        """Return the next value that has arrived; none counts after the end."""
        for value in self._pending:
            if value is DONE:
                self._end()
            elif not self.ended:
                self._understood = True
                return value
        return _NOTHING

    def _require_an_event(self) -> None:
        """Refuse a body that has ended without one.

        Raises:
            MalformedCompletion: it is no stream of this API.
        """
        understood = self._understood or self._events.was_cut
        if self._kept and not (understood or self.ended):
            raise self._malformed("sent a stream without one event of data")

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._wait_until(self._clock.elapsed_seconds() + _DRAIN_SECONDS)

    async def _read_on(self) -> bool:
        """Read on; False when it broke off: it may have said its finish before."""
        try:
            chunk = await self._next_chunk()
        except FOREIGN_ERRORS:
            return False
        except LLMError:
            if self.ended:
                return False
            raise
        if chunk:
            self._pending = iter(self._events.feed(chunk))
            return True
        self._is_over = True
        self._pending = iter(self._events.end())
        return True

    async def _next_chunk(self) -> bytes:
        if self._watch is None:
            content = self._sent.response.content
            self._watch = self._clock.watch(content, until_seconds=self._until)
        watch = self._watch
        watch.begin()
        try:
            chunk = await self._read()
        finally:
            watch.pause()
        if not self.ended or not self._is_stream:
            watch.extend(self._limits.idle_seconds)
        return self._counted(chunk)

    def _wait_until(self, seconds: float) -> None:
        self._until = seconds
        if self._watch is not None:
            self._watch.move(seconds)

    def _counted(self, chunk: bytes) -> bytes:
        """Return a chunk of the body, unless it is too much.

        Raises:
            MalformedCompletion: more came than an answer may have.
        """
        self._size += len(chunk)
        if len(self._kept) < _KEPT_BYTES:
            self._kept += chunk[: _KEPT_BYTES - len(self._kept)]
        if self._size > self._limits.max_bytes:
            raise self._malformed(f"sent more than {self._limits.max_bytes} bytes")
        return chunk

    def _error_in(self, value: object) -> LLMError:
        """Return what is wrong with what came."""
        if value is NOT_JSON:
            return self._malformed("sent what is not JSON")
        if not isinstance(value, dict):
            kind = type(value).__name__
            return self._malformed(f"sent JSON of type {kind} instead of an object")
        failure = failure_in(value, body=self.kept)
        return error_from(failure, endpoint=self._endpoint, model=self._model)

    def _broken_off(self) -> MalformedCompletion:
        return self._malformed("broke off in mid-answer")

    def _malformed(self, what: str) -> MalformedCompletion:
        return MalformedCompletion(
            f"{self._endpoint.base_url} {mended(what)}; set OPENAI_BASE_URL to an"
            " endpoint that speaks Chat Completions",
            endpoint=self._endpoint.base_url,
            status=self._sent.response.status,
            body=self.kept,
        )


def _value_of(text: bytes) -> object:
    """Return the value, or `NOT_JSON`; no error of the reader, which holds the text."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return NOT_JSON


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
