"""The HTTP client of one endpoint: aiohttp's connections, our limits and no cookies.

httpx alone reads proxies, and is loaded where there is one: with what it imports it is
four MiB of a worker (decision 8).
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING
from urllib.request import getproxies

from aiohttp import (
    BytesPayload,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    StreamReader,
    TCPConnector,
)
from aiohttp.abc import AbstractStreamWriter

from orchestrator.trace_context import HEADER, present_traceparent
from workers.errors import InvalidEndpoint
from workers.llm.endpoint import CallLimits, Endpoint, proxy_login

if TYPE_CHECKING:
    import httpx

_IDLE_SECONDS = 5.0
"""After which a connection that nobody uses is closed, sooner than most servers do."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How the endpoint is reached; its repr shows no secret."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Beside those of each request."""
    proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)


class _LetGo(BytesPayload):
    """A body that is kept until it is written, not until its answer has come."""

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await super().write_with_length(writer, content_length)
        self._value = b""


class EndpointClient:
    """The connections to an endpoint, opened on the loop that first uses them."""

    def __init__(self, endpoint: Endpoint, limits: CallLimits) -> None:
        """Take an endpoint, and the proxy that the environment names for it.

        Raises:
            InvalidEndpoint: that proxy or a file of certificates cannot be used.
        """
        self._limits = limits
        given = endpoint.request_headers().items()
        self._headers = {
            "accept": "*/*",
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in given},
            "content-type": "application/json",
        }
        self._tls = endpoint.tls_context()
        self._way = _way_to(endpoint)
        self._time_limits = ClientTimeout(sock_connect=limits.connect_seconds)

    @cached_property
    def _session(self) -> ClientSession:
        connector = TCPConnector(
            keepalive_timeout=_IDLE_SECONDS,
            ssl=self._tls,
            limit=self._limits.max_connections,
        )
        # Runs of all users share it.
        return ClientSession(
            connector=connector, headers=self._headers, cookie_jar=DummyCookieJar()
        )

    def post_json(self, url: str, content: bytes) -> Awaitable[ClientResponse]:
        """Send a body, and the trace that it belongs to.

        The response is to be read and closed by the caller, who keeps no body.

        Raises:
            aiohttp.ClientError, OSError: no answer came.
        """
        return self._send("POST", url, _LetGo(content))

    def get(self, url: str) -> Awaitable[ClientResponse]:
        """Ask for what an address holds; otherwise as `post_json`."""
        return self._send("GET", url, None)

    def _send(
        self, method: str, url: str, body: BytesPayload | None
    ) -> Awaitable[ClientResponse]:
        way, trace = self._way, present_traceparent()
        return self._session.request(
            method,
            url,
            headers={**way.headers, HEADER: trace} if trace else way.headers,
            data=body,
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._time_limits,
            proxy=way.proxy,
            proxy_headers=way.proxy_headers,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if "_session" in vars(self):
            await self._session.close()


def _way_to(endpoint: Endpoint) -> _Way:
    proxy = endpoint.http_proxy()
    if proxy is None and not endpoint.is_loopback:
        proxy = _proxy_of_environment(endpoint.base_url)
    if proxy is None:
        return _Way()
    # httpx keeps the login of a proxy that the environment names apart.
    login = proxy_login(*proxy.auth) if proxy.auth else {}
    logins = {**proxy.headers, **login}
    # aiohttp sends those of a proxy with CONNECT only.
    headers = logins if endpoint.base_url.startswith("http:") else {}
    return _Way(headers, str(proxy.url), logins)


def _proxy_of_environment(url: str) -> httpx.Proxy | None:
    """Return the proxy that the environment names for an address, as httpx reads it."""
    if not getproxies():
        return None
    import httpx  # noqa: PLC0415
    from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient  # noqa: PLC0415

    client: HttpxAiohttpClient | None = None
    with suppress(ValueError, httpx.InvalidURL):
        client = HttpxAiohttpClient(verify=False)
    if client is None:  # without its error, which repeats a URL that may hold a login
        raise InvalidEndpoint(
            "a proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)"
            f" cannot be used for {url}; give it a URL that begins with http:// or"
            " https://"
        )
    transport = client._transport_for_url(httpx.URL(url))
    if not isinstance(transport, AiohttpTransport):
        raise TypeError("a client of httpx-aiohttp has transports of aiohttp alone")
    proxy: httpx.Proxy | None = transport.proxy
    return proxy


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
    """Return an HTTP client for the endpoint; nothing is sent."""
    return EndpointClient(endpoint, limits)
