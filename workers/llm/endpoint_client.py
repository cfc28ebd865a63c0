"""The HTTP client of one endpoint: httpx, with aiohttp's connections below it.

A completion's request goes to those connections without httpx, whose objects cost more
than the sending (decision 8). Proxies, TLS and limits are those of the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import httpx
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from orchestrator.trace_context import HEADER, present_traceparent
from workers.llm.endpoint import CallLimits, Endpoint, proxy_login


class _Way(NamedTuple):
    """The connections to an address."""

    session: ClientSession
    headers: Mapping[str, str]
    proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = None


class EndpointClient(HttpxAiohttpClient):
    """An `httpx.AsyncClient` with a short way for the requests that are many."""

    @cached_property
    def _ways(self) -> dict[str, _Way]:
        return {}

    @cached_property
    def _time_limits(self) -> ClientTimeout:
        return ClientTimeout(sock_connect=self.timeout.connect)

    async def post_json(self, url: str, content: bytes) -> ClientResponse:
        """Send a body, and the trace that it belongs to.

        The response is to be read and closed by the caller.

        Raises:
            httpx.HTTPError, aiohttp.ClientError, OSError: no answer came.
        """
        way = self._ways.get(url) or self._ways.setdefault(url, self._way_to(url))
        trace = present_traceparent()
        return await way.session.post(
            url,
            headers={**way.headers, HEADER: trace} if trace else way.headers,
            data=content,
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
            transport.client = transport.get_client()
        proxy = transport.proxy
        headers = {**self.headers, "content-type": "application/json"}
        if proxy is None:
            return _Way(transport.client, headers)
        # httpx keeps the login of a proxy that the environment names apart.
        login = proxy_login(*proxy.auth) if proxy.auth else {}
        if url.startswith("http:"):
            headers |= login  # aiohttp sends those of a proxy with CONNECT only
        return _Way(
            transport.client, headers, str(proxy.url), {**proxy.headers, **login}
        )


@dataclass(frozen=True)
class Sent:
    """The response to a request, and the client that was made for it alone."""

    response: ClientResponse
    own_client: EndpointClient | None = None

    async def aclose(self) -> None:
        """Close what is not read; the connection of what is was given back."""
        self.response.close()
        if self.own_client is not None:
            await self.own_client.aclose()


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
