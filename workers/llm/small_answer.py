"""What an endpoint tells of itself: small JSON, whatever it sends instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from conversations.json_value import JsonObject, dumps
from workers.llm.body import gathered
from workers.llm.endpoint_client import EndpointClient

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
    client: EndpointClient, url: str, body: JsonObject | None = None
) -> SmallAnswer:
    """Get what is answered by little, or post to it; the caller bounds its time.

    Raises:
        BodyTooLarge: it was not.
        aiohttp.ClientError, OSError: no whole answer came.
    """
    if body is None:
        asked = client.get(url)
    else:
        text = dumps(body).encode()
        asked = client.post_json(url, lambda: text)
    async with aclosing(await asked) as sent:
        raw = await gathered(sent.body.iter_any(), sent.headers, most_bytes=MOST_BYTES)
        return SmallAnswer(sent.status, raw)
