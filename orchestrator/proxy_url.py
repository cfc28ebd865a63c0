"""The address of an HTTP proxy, checked before anybody is asked through it."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_proxy_url(url: str) -> str:
    """Return `url`, whose login may hold any character that is written as `%..`.

    Raises:
        ValueError: it is no http(s) address of a host; repeats nothing of it.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        (parts.hostname or "").encode("idna")
        is_address = is_address and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        is_address = False
    is_bare = url.isprintable() and not set(url) & set(" ?#")
    if not is_address or not is_bare:
        raise ValueError(
            "not the http(s) URL of a proxy; write it like http://proxy:3128 (in a"
            " login # as %23, / as %2F, ? as %3F, @ as %40)"
        )
    return url
