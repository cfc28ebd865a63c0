"""One answer of an endpoint as JSON payloads: server-sent events or one document.

Keeps to the limits of a call, time and bytes; what the payloads mean is the parser's
affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TypeGuard

import aiohttp

from conversations.json_value import loads
from conversations.mending import mended
from workers.errors import LLMError, LLMUnavailable, MalformedCompletion
from workers.llm.body import Undecodable, encoding_in, is_known, piece_by_piece
from workers.llm.call_clock import CallClock, Watch
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.error_mapping import bare, error_from, failure_in, has_failed
from workers.llm.event_stream import DONE, NOT_JSON, EventStream
from workers.llm.gathering import Gathering
from workers.llm.sent import Sent
from workers.llm.waits import used_up_seconds

Payload = dict[str, object]
_DRAIN_SECONDS = 0.1
"""After the last event, for the end of the body: then the connection is reused."""
_SPACE = b" \t\r\n\xef\xbb\xbf"
_KEPT_BYTES = 2048
"""Of what came, for the error."""
_REMEDY = "set OPENAI_BASE_URL to an endpoint that speaks Chat Completions"
FOREIGN_ERRORS = (aiohttp.ClientError, OSError)
"""What aiohttp raises."""


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
        self.may_end = False
        """Whether the model has said its finish: silence after it loses nothing."""
        self._sent = sent
        self._headers = sent.headers
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
        self._pending: list[object] = []
        self._first: bytes | None = None
        self._understood = False
        self._is_over = False
        self._body = sent.body
        self._read = self._read_at_once = piece_by_piece(self._body, self._encoding)

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
        is_all = self._size == len(self._kept) and self._body.at_eof()
        return self._endpoint.scrub(text, is_cut=not is_all)

    async def payloads(self) -> list[Payload]:
        """Return what came next: events of a stream, or the one document; then nothing.

        Raises:
            LLMError: what came is no JSON object, carries an error, is too large,
                too slow, or breaks off.
        """
        if not self._size:
            await self._begin()
        if not self._is_stream:
            if self.ended:
                return []
            self.ended = True
            return [self._required(await self._document())]
        while not (found := self._arrived()):
            if self._is_over:
                self._require_an_event()
                break
            if not await self._read_on():
                break
        return found

    async def _begin(self) -> None:
        """Refuse what cannot be read; look at what has no type."""
        if not is_known(self._encoding):
            raise self._malformed(
                f"compressed its answer ({self._encoding[:40]}), which was not asked"
                " for"
            )
        if not self._media_type and self._first is None:
            try:
                self._first = await self._next_chunk()
            except FOREIGN_ERRORS as exc:
                raise self._broken_off() from bare(exc, endpoint=self._endpoint)
            self._is_stream = not self._first.lstrip(_SPACE).startswith((b"{", b"["))
            if self._is_stream:
                self._pending = self._events.feed(self._first)
        if self._is_stream:
            self._read = Gathering(self._sent, self._read).next

    async def _document(self) -> object:
        if self._media_type and "json" not in self._media_type:
            await self._keep_a_chunk()
            raise self._malformed(f"sent {self._media_type} instead of JSON")
        try:
            return _value_of(self._arrived_text() or await self._text())
        except Undecodable as exc:
            raise self._malformed(
                f"sent a body that is not {self._encoding}, as its head says it is"
            ) from bare(exc, endpoint=self._endpoint)
        except FOREIGN_ERRORS as exc:
            raise self._broken_off() from bare(exc, endpoint=self._endpoint)

    def _arrived_text(self) -> bytes:
        """Return the body when it came with its head, as small ones do; else nothing.

        What is there takes no time, so it needs no clock.
        """
        if self._encoding or self._first is not None or not self._body.is_eof():
            return b""
        return self._counted(self._body.read_nowait())

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

    def _arrived(self) -> list[Payload]:
        """Return the events that were read; none counts after the end.

        Raises:
            LLMError: the first of them is an error; others are told in their turn.
        """
        found: list[Payload] = []
        events, self._pending = self._pending, []
        for place, value in enumerate(events if not self.ended else ()):
            if _is_good(value):
                found.append(value)
            elif value is DONE:
                self._end()
                break
            elif found:
                self._pending = events[place:]
                break
            else:
                self._understood = True
                return [self._required(value)]
        self._understood = self._understood or bool(found)
        return found

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
            self._read = self._read_at_once  # to gather may take all of that time
            self._wait_until(self._clock.elapsed_seconds() + _DRAIN_SECONDS)

    async def _read_on(self) -> bool:
        """Read on; False when it broke off: it may have said its finish before."""
        try:
            chunk = await self._next_chunk()
        except FOREIGN_ERRORS:
            return False
        except LLMError as exc:
            if self.ended or (self.may_end and isinstance(exc, LLMUnavailable)):
                return False
            raise
        self._is_over = not chunk
        self._pending = self._events.feed(chunk) if chunk else self._events.end()
        return True

    async def _next_chunk(self) -> bytes:
        if self._watch is None:
            self._watch = self._clock.watch(self._body, until_seconds=self._until)
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
            raise self._malformed(
                f"sent more than {self._limits.max_bytes} bytes",
                remedy="have it send less or raise its max_response_bytes",
            )
        return chunk

    def _required(self, value: object) -> Payload:
        """Return a value that came, if it is what an answer is made of.

        Raises:
            LLMError: it is not.
        """
        if isinstance(value, list) and len(value) == 1:
            [value] = value  # Gemini's errors
        if _is_good(value):
            return value
        raise self._error_in(value)

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

    def _malformed(self, what: str, *, remedy: str = _REMEDY) -> MalformedCompletion:
        return MalformedCompletion(
            f"{self._endpoint.base_url} {mended(what)}; {remedy}",
            endpoint=self._endpoint.base_url,
            status=self._sent.status,
            body=self.kept,
        )


def _is_good(value: object) -> TypeGuard[Payload]:
    return type(value) is dict and not has_failed(value)


def _value_of(text: bytes) -> object:
    """Return the value, or `NOT_JSON`; no error of the reader, which holds the text."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return NOT_JSON


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
