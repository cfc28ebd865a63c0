"""One request on a connection of aiohttp's, and the response to it.

A `ClientSession` prepares every request anew, writes it by a task and sees to cookies
and redirects. What an endpoint is asked differs in its body alone: here its head is
written once, and aiohttp gives connections and reads answers (decision 17).
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import (
    ClientPayloadError,
    ClientRequest,
    ClientResponseError,
    ServerDisconnectedError,
    StreamReader,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from orchestrator.trace_context import HEADER, present_traceparent

_OF_THE_BODY = frozenset({"content-length", "transfer-encoding"})
"""Headers that say how a body is framed."""
_SWITCHED = 101


class Prepared:
    """What is asked at one address, but for the body; shared by all who ask it."""

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        proxy: str | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.request = ClientRequest(
            "GET",  # of which it expects no body: that is not its own
            URL(url),
            headers=headers,
            proxy=None if proxy is None else URL(proxy),
            proxy_headers=proxy_headers,
        )
        """Tells aiohttp where to connect, and how."""
        is_relayed = proxy is not None and not self.request.is_ssl()
        target = str(self.request.url) if is_relayed else self.request.url.raw_path_qs
        lines = [f"{method} {target} HTTP/1.1"]
        self._trace = ""
        """One that is configured; that of a run goes before it."""
        for name, value in self.request.headers.items():
            if name.lower() == HEADER:
                self._trace = value
            elif name.lower() not in _OF_THE_BODY:
                lines.append(f"{name}: {value}")
        self._head = "\r\n".join(lines).encode()

    def text(self, body: bytes | None) -> bytes:
        """Return the request with a body, and the trace that it belongs to."""
        parts = [self._head]
        if trace := present_traceparent() or self._trace:
            parts.append(f"{HEADER}: {trace}".encode())
        if body is not None:
            parts.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join((*parts, b"", body or b""))


async def send(
    asked: Prepared, connection: Connection, write: Callable[[], bytes] | None
) -> Sent:
    """Send a request on a connection, whose owner the response becomes.

    Its body is written now, and kept by nobody who waits.

    Raises:
        aiohttp.ClientError: no answer came; the connection is closed.
    """
    try:
        protocol = _written_to(connection, asked, write)
        head, body = await protocol.read()
        while 100 <= head.code < 200 and head.code != _SWITCHED:
            head, body = await protocol.read()
    except HttpProcessingError as exc:
        connection.close()
        about = asked.request.request_info
        raise ClientResponseError(
            about, (), status=exc.code, message=exc.message
        ) from exc
    except BaseException:
        connection.close()
        raise
    return Sent(connection, head, body)


def _written_to(
    connection: Connection, asked: Prepared, write: Callable[[], bytes] | None
) -> ResponseHandler:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or transport.is_closing():
        raise ServerDisconnectedError
    if protocol.should_close:  # what came while it was idle answers no request
        raise ServerDisconnectedError
    protocol.set_parser(None, None)  # or it keeps the last answer's body until the next
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    transport.write(asked.text(write() if write else None))
    return protocol


class Sent:
    """The response to a request: its head, and its body as it comes."""

    def __init__(
        self, connection: Connection, head: RawResponseMessage, body: StreamReader
    ) -> None:
        self.status = head.code
        self.headers: Mapping[str, str] = head.headers
        self.body = body
        self.connection: Connection | None = connection
        """None once the body has come to its end."""
        self.close_client: Callable[[], Awaitable[None]] | None = None
        """Closes the client that was made for this request alone, if one was."""
        self._unwatch: Callable[[], object] | None = None
        body.on_eof(self._let_go)
        if self.connection is not None:
            self._unwatch = _watched(connection.protocol, body)

    def _let_go(self) -> None:
        """Give the connection to others, unless some of the request is still unsent."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        transport = connection.transport
        if transport is None or transport.get_write_buffer_size():
            connection.close()
        else:
            connection.release()

    async def aclose(self) -> None:
        """Close what is not read; the connection of what is was given back."""
        if self._unwatch is not None:
            self._unwatch()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
        if self.close_client is not None:
            await self.close_client()


def _watched(
    protocol: ResponseHandler | None, body: StreamReader
) -> Callable[[], object] | None:
    """Have a body fail that its connection does not outlive; return what stops that.

    aiohttp closes a connection whose chunks are broken and does not tell the body: who
    reads it would wait for the time limit.
    """
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        return None
    closed.remove_done_callback(_take_error)  # of the connection's last answer
    closed.add_done_callback(_take_error)
    fail = partial(_fail, body)
    closed.add_done_callback(fail)
    return partial(closed.remove_done_callback, fail)


def _take_error(closed: Future[None]) -> None:
    """Let nobody miss the error of a connection that was lost while it was idle."""
    if not closed.cancelled():
        closed.exception()


def _fail(body: StreamReader, _: Future[None]) -> None:
    if not body.is_eof() and body.exception() is None:
        body.set_exception(ClientPayloadError("the connection ended before the body"))
