"""Which secrets stand in a file that belongs under version control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from orchestrator.redis_url import servers_in
from orchestrator.settings_sources import ABSENT, Layer

SECRET_KEYS: Final = frozenset({"api_key", "headers"})
"""Of an endpoint, besides its proxy, whose URL need not hold a login."""
_URLS: Final = (("storage", "redis_url"), ("storage", "broker_url"))


def exposed_secrets(layers: Iterable[Layer], endpoints: Iterable[str]) -> Iterator[str]:
    """Yield a sentence with the remedy for each; endpoints are those with a name."""
    places = [("llm",), *(("llm", "endpoints", name) for name in endpoints)]
    secrets = [(*place, key) for place in places for key in sorted(SECRET_KEYS)]
    urls = [*((*place, "proxy") for place in places), *_URLS]
    for layer in layers:
        if not layer.is_committed:
            continue
        found = [
            path
            for path in (*secrets, ("webhooks", "secret"))
            if layer.value_at(path) not in (ABSENT, None, {}, "")
        ]
        found += [path for path in urls if _has_password(layer.value_at(path))]
        for path in found:
            yield (
                f"{'.'.join(path)}: a secret stands in {layer.name}; set it in the"
                " environment, .env or the secrets directory instead"
            )


def _has_password(url: object) -> bool:
    if not isinstance(url, str):
        return False
    with suppress(ValueError):  # what is no URL counts only where nothing overrides it
        for server in servers_in(url):
            parts = urlsplit(server)
            if parts.password or "password" in dict(parse_qsl(parts.query)):
                return True
    return False
