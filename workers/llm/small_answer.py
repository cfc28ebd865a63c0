"""What an endpoint tells of itself: small JSON, whatever it sends instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpx

from workers.llm.body import gathered

MOST_BYTES: Final = 8 * 1024 * 1024
"""Lists of hosted models have about one."""


class SmallAnswer(NamedTuple):
    """A status and the body with it."""

    status: int
    raw: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300

    def told(self) -> Mapping[str, object]:
        """Return the JSON object that it is; an empty one where it is none."""
        try:
            value = json.loads(self.raw)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


async def ask_small(
    client: httpx.AsyncClient, method: str, url: str, body: object = None
) -> SmallAnswer:
    """Send a request that is answered by little; the caller bounds its time.

    Raises:
        BodyTooLarge: it was not.
        httpx.HTTPError: no whole answer came.
    """
    async with client.stream(method, url, json=body) as response:
        raw = await gathered(
            response.aiter_raw(), response.headers, most_bytes=MOST_BYTES
        )
        return SmallAnswer(response.status_code, raw)
