"""The HTTP client of one endpoint: aiohttp's connections under httpx's names.

A completion's request takes the short way to the transport. Cookies, redirects, hooks
and authentication flows of httpx cost as much as the sending, and are not wanted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from workers.llm.endpoint import CallLimits, Endpoint


class EndpointClient(HttpxAiohttpClient):
    """An `httpx.AsyncClient` with a short way for the requests that are many."""

    @cached_property
    def _json_headers(self) -> httpx.Headers:
        return httpx.Headers({**self.headers, "Content-Type": "application/json"})

    async def post_json(self, url: httpx.URL, content: bytes) -> httpx.Response:
        """Send a body; the response is to be read and closed by the caller.

        Raises:
            httpx.HTTPError, aiohttp.ClientError, OSError: as the transport does.
        """
        request = httpx.Request(
            "POST",
            url,
            headers=self._json_headers,
            content=content,
            extensions={"timeout": self.timeout.as_dict()},
        )
        return await self._transport_for_url(url).handle_async_request(request)


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


def encoded(body: Mapping[str, object]) -> bytes:
    """Return a body as compact JSON."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()
