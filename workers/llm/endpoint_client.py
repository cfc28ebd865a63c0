"""The HTTP client of one endpoint: httpx, with aiohttp's connections below it.

A completion's request goes to those connections without httpx, whose objects cost more
than the sending (decision 8). Proxies, TLS and limits are those of the client.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import httpx
from aiohttp import (
    BaseConnector,
    BytesPayload,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    StreamReader,
)
from aiohttp.abc import AbstractStreamWriter
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from orchestrator.trace_context import HEADER, present_traceparent
from workers.llm.endpoint import CallLimits, Endpoint, proxy_login


@dataclass(frozen=True, slots=True)
class _Way:
    """The connections to an address, and all that is sent with each request."""

    session: ClientSession
    proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)


class _LetGo(BytesPayload):
    """A body that is kept until it is written, not until its answer has come."""

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await super().write_with_length(writer, content_length)
        self._value = b""


class EndpointClient(HttpxAiohttpClient):
    """An `httpx.AsyncClient` with a short way for the requests that are many."""

    @cached_property
    def _ways(self) -> dict[str, _Way]:
        return {}

    @cached_property
    def _time_limits(self) -> ClientTimeout:
        return ClientTimeout(sock_connect=self.timeout.connect)

    def post_json(self, url: str, content: bytes) -> Awaitable[ClientResponse]:
        """Send a body, and the trace that it belongs to.

        The response is to be read and closed by the caller, who keeps no body.

        Raises:
            httpx.HTTPError, aiohttp.ClientError, OSError: no answer came.
        """
        way = self._ways.get(url) or self._ways.setdefault(url, self._way_to(url))
        trace = present_traceparent()
        return way.session.post(
            url,
            headers={HEADER: trace} if trace else None,
            data=_LetGo(content),
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._time_limits,
            proxy=way.proxy,
            proxy_headers=way.proxy_headers,
        )

    def _way_to(self, url: str) -> _Way:
        transport = self._transport_for_url(httpx.URL(url))
        if not isinstance(transport, AiohttpTransport):
            raise TypeError("an endpoint's client has transports of aiohttp alone")
        if not isinstance(transport.client, ClientSession):
            transport.client = _without_cookies(transport.get_client())
        connector = transport.client.connector
        proxy = transport.proxy
        headers = {**self.headers, "content-type": "application/json"}
        if proxy is None:
            return _Way(_session(connector, headers))
        # httpx keeps the login of a proxy that the environment names apart.
        login = proxy_login(*proxy.auth) if proxy.auth else {}
        if url.startswith("http:"):
            headers |= login  # aiohttp sends those of a proxy with CONNECT only
        proxy_headers = {**proxy.headers, **login}
        return _Way(_session(connector, headers), str(proxy.url), proxy_headers)


def _without_cookies(session: ClientSession) -> ClientSession:
    """Return a session on the same connections; runs of all users share it."""
    connector = session.connector
    session.detach()
    return ClientSession(connector=connector, cookie_jar=DummyCookieJar())


def _session(
    connector: BaseConnector | None, headers: Mapping[str, str]
) -> ClientSession:
    """Return another session on the connections, which need not be closed."""
    return ClientSession(
        connector=connector,
        connector_owner=False,
        headers=headers,
        cookie_jar=DummyCookieJar(),
    )


class Sent:
    """The response to a request, and the client that was made for it alone."""

    def __init__(
        self, response: ClientResponse, own_client: EndpointClient | None = None
    ) -> None:
        self.response = response
        self._own_client = own_client
        self._unwatch = _watched(response)

    async def aclose(self) -> None:
        """Close what is not read; the connection of what is was given back."""
        self._unwatch()
        self.response.close()
        if self._own_client is not None:
            await self._own_client.aclose()


def _watched(response: ClientResponse) -> Callable[[], object]:
    """Have a body fail that its connection does not outlive; return what stops that.

    aiohttp closes a connection whose chunks are broken and does not tell the body: who
    reads it would wait for the time limit.
    """
    connection = response.connection  # none when the body came with the head
    protocol = connection.protocol if connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        return lambda: None
    closed.remove_done_callback(_take_error)  # of the connection's last answer
    closed.add_done_callback(_take_error)
    fail = partial(_fail, response.content)
    closed.add_done_callback(fail)
    return partial(closed.remove_done_callback, fail)


def _take_error(closed: Future[None]) -> None:
    """Let nobody miss the error of a connection that was lost while it was idle."""
    if not closed.cancelled():
        closed.exception()


def _fail(body: StreamReader, _: Future[None]) -> None:
    if not body.is_eof() and body.exception() is None:
        body.set_exception(ClientPayloadError("the connection ended before the body"))


def open_client(endpoint: Endpoint, limits: CallLimits) -> EndpointClient:
    """Return an HTTP client for the endpoint: no redirects, limits kept elsewhere."""
    proxy = endpoint.http_proxy()
    headers = {"Accept-Encoding": "identity", **endpoint.request_headers()}
    if proxy is not None and endpoint.base_url.startswith("http:"):
        headers |= proxy.headers  # aiohttp sends them with CONNECT only
    return EndpointClient(
        # Without it, each of the client's transports would load the authorities.
        verify=endpoint.tls_context(),
        proxy=proxy,
        trust_env=not endpoint.is_loopback,
        follow_redirects=False,
        headers=headers,
        timeout=httpx.Timeout(None, connect=limits.connect_seconds),
        limits=httpx.Limits(max_connections=limits.max_connections),
    )
