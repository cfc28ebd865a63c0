"""The HTTP client of one endpoint: aiohttp's connections, and our limits.

httpx alone reads proxies, and is loaded where there is one: with what it imports it is
four MiB of a worker (decision 8).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.request import getproxies

from aiohttp import ClientTimeout, ConnectionTimeoutError, TCPConnector

from workers.errors import InvalidEndpoint
from workers.llm.endpoint import CallLimits, Endpoint, proxy_login
from workers.llm.sent import Prepared, Sent, send

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
        self._way = _way_to(endpoint)
        self._tls = endpoint.tls_context(proxy=self._way.proxy)
        self._time_limits = ClientTimeout(sock_connect=limits.connect_seconds)
        self._prepared: dict[tuple[str, str], Prepared] = {}

    @cached_property
    def _connector(self) -> TCPConnector:
        return TCPConnector(
            keepalive_timeout=_IDLE_SECONDS,
            ssl=self._tls,
            limit=self._limits.max_connections,
        )

    def post_json(self, url: str, write: Callable[[], bytes]) -> Awaitable[Sent]:
        """Send a body, written once there is a connection, and its trace.

        The response is to be read and closed by the caller.

        Raises:
            aiohttp.ClientError, OSError: no answer came.
        """
        return self._send("POST", url, write)

    def get(self, url: str) -> Awaitable[Sent]:
        """Ask for what an address holds; otherwise as `post_json`."""
        return self._send("GET", url, None)

    async def _send(
        self, method: str, url: str, write: Callable[[], bytes] | None
    ) -> Sent:
        asked = self._prepared.get((method, url)) or self._prepare(method, url)
        try:
            connection = await self._connector.connect(
                asked.request, [], self._time_limits
            )
        except TimeoutError as exc:
            raise ConnectionTimeoutError(f"no connection to {url} in time") from exc
        return await send(asked, connection, write)

    def _prepare(self, method: str, url: str) -> Prepared:
        prepared = self._prepared[method, url] = Prepared(
            method,
            url,
            headers={**self._headers, **self._way.headers},
            proxy=self._way.proxy,
            proxy_headers=self._way.proxy_headers,
        )
        return prepared

    def without_connections(self) -> EndpointClient:
        """Return one like this that opens its own.

        What is slow to make, such as what TLS verifies with, both have.
        """
        other = copy(self)
        vars(other).pop("_connector", None)
        return other

    async def aclose(self) -> None:
        """Close the connections."""
        if "_connector" in vars(self):
            await self._connector.close()


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


def open_client(endpoint: Endpoint, limits: CallLimits) -> EndpointClient:
    """Return an HTTP client for the endpoint; nothing is sent."""
    return EndpointClient(endpoint, limits)
