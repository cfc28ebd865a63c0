"""A connection to Redis whose answers go straight to those who wait for them.

redis-py connects, logs in and selects the database; what passes afterwards goes by no
stream and no task. Knows commands as bytes and nothing of who sends them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.redis_connection import take_over

READ_BYTES: Final = 64 * 1024
"""Of one read; longer answers take several."""
_INCOMPLETE: Final = object()
"""What the parser gives while an answer has not arrived as a whole."""


class Sending:
    """The commands of one caller and the answers to them."""

    __slots__ = ("answered", "answers", "commands", "size")

    def __init__(
        self,
        commands: list[bytes],
        answered: asyncio.Future[list[Any]],
        *,
        size: int | None = None,
    ) -> None:
        self.commands = commands
        self.size = sum(map(len, commands)) if size is None else size
        self.answers: list[Any] = []
        self.answered = answered

    def is_done(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.answered.done()

    def give(self, answers: list[Any]) -> None:
        """Hand out what was answered."""
        if not self.answered.done():
            self.answered.set_result(answers)

    def fail(self, error: BaseException) -> None:
        """Tell that nothing is known of it."""
        if not self.answered.done():
            self.answered.set_exception(error)

    def drop(self) -> None:
        """Give it up."""
        self.answered.cancel()


Ended = Callable[[Exception | None], None]
"""Told once of each batch: None when all is answered, else why the line is gone."""


class RedisLine(asyncio.BufferedProtocol):
    """One connection, from its login to its loss; one batch at a time."""

    def __init__(self, connection: AbstractConnection, *, ended: Ended) -> None:
        """Take a connection over that redis-py has set up and nobody else uses."""
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._seconds = connection.socket_timeout
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered: deque[Sending] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            encoding=connection.encoder.encoding,
            errors=connection.encoder.encoding_errors,
            notEnoughData=_INCOMPLETE,
        )
        self.is_open = True
        self._transport, self._former = take_over(connection, self)

    def send(self, batch: Iterable[Sending]) -> None:
        """Send commands; answers go to their senders, the end of all to `ended`."""
        self._unanswered.extend(batch)
        self._put_off_deadline()
        commands = [each for sending in self._unanswered for each in sending.commands]
        self._transport.write(b"".join(commands))

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self.is_open = False
        self._unanswered.clear()
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - its name
        """Where the transport reads to; a view, since TLS slices it."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand out the answers that have arrived."""
        parser, unanswered = self._parser, self._unanswered
        parser.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type] # says: bytes
        try:
            while (answer := self._next_answer()) is not _INCOMPLETE:
                if isinstance(answer, RedisConnectionError) or not unanswered:
                    self._fail(answer)
                    return
                sending = unanswered[0]
                sending.answers.append(answer)
                if len(sending.answers) == len(sending.commands):
                    unanswered.popleft()
                    sending.give(sending.answers)
                    if not unanswered:
                        self._ended(None)
        except InvalidResponse as exc:
            self._fail(exc)

    def resume_writing(self) -> None:
        """Give the answers their time from when the commands are on their way."""
        self._put_off_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell redis-py, which may wait for it, and whoever waits for answers."""
        self._former.connection_lost(exc)
        if self.is_open:
            reason = "closed by server" if exc is None else f"lost: {exc}"
            self._fail(RedisConnectionError(f"Connection {reason}"))

    def _next_answer(self) -> Any:
        try:
            return self._parser.gets()
        except UnicodeError as exc:  # the one answer's, which has been read
            return exc

    def _put_off_deadline(self) -> None:
        """One timer serves many batches: it looks at how far the deadline has moved."""
        if self._seconds is None:
            return
        self._deadline = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if not self._unanswered:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)
        else:
            self._fail(RedisTimeoutError("Timeout reading from socket"))

    def _fail(self, reason: Any) -> None:
        waited = bool(self._unanswered)
        self.abort()
        if not isinstance(reason, Exception):
            reason = InvalidResponse("Redis answered what nobody asked")
        if waited:
            self._ended(reason)
