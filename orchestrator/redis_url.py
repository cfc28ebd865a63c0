"""Redis URLs: checked, shown without their password, written for each client.

redis-py calls a socket `unix:///path?db=1`, kombu `redis+socket:///path?virtual_host=1`.
Celeriac keeps redis-py's form; `for_kombu` is the one place that translates.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEMES = ("redis", "rediss", "unix", "redis+socket")
_SHOWN = ("db", "virtual_host")
"""What of a query may be shown; anything else could be a password."""


def check_redis_url(url: str) -> str:
    """Return `url` in redis-py's form.

    Raises:
        ValueError: it names no Redis server; the message never shows the URL.
    """
    if ";" in url:
        raise ValueError(
            "holds a `;`, which would name another server; name one, and write the `;`"
            " of a password as %3B"
        )
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _SCHEMES and parts.port != 0
    except ValueError:
        raise ValueError(
            "not a URL that can be read (check port and brackets; in a password write"
            " # as %23, / as %2F, @ as %40); write it like redis://localhost:6379/0"
        ) from None
    if not valid:
        raise ValueError(
            f"scheme {parts.scheme[:20]!r} is not a Redis URL's;"
            " write redis://host:6379/0, rediss://… or unix:///path/to/socket"
        )
    _check_database(parts)
    if parts.scheme in ("redis", "rediss"):
        return url
    if not parts.path.strip("/"):
        raise ValueError(
            "a socket URL needs an absolute path; write unix:///path/to/socket"
        )
    return _of_redis_py(parts.netloc, parts.path, parts.query)


def _check_database(parts: SplitResult) -> None:
    """Refuse what redis-py would silently take for database 0."""
    named = [value for name, value in parse_qsl(parts.query) if name in _SHOWN]
    if parts.scheme in ("redis", "rediss"):
        named.append(unquote(parts.path).removeprefix("/"))
    if not all(each == "" or each.isdecimal() for each in named):
        raise ValueError(
            "the database must be a number; write it like redis://localhost:6379/0"
        )


def servers_in(url: str) -> list[str]:
    """Return the addresses of a broker's servers; most have one."""
    return re.split(r";(?=[a-z+]+://)", url)


def for_kombu(url: str) -> str:
    """Return a checked URL as Celery and kombu want it; other brokers' unchanged.

    kombu fails on options that are redis-py's own, such as `socket_timeout`: they are
    left out, since Celery's settings say what they would. It takes a login only where
    it stands before the host. Without an option of TLS it checks no certificate, which
    redis-py does.
    """
    return ";".join(map(_of_kombu, servers_in(url)))


def _of_kombu(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        return url
    options = dict(parse_qsl(parts.query))
    db = options.pop("db", None)
    kept = {name: options[name] for name in options if name.startswith("ssl_")}
    netloc = _with_login(parts, options)
    if parts.scheme == "unix":
        kept |= {} if db is None else {"virtual_host": db}
        return _join("redis+socket", netloc, parts.path, urlencode(kept))
    if parts.scheme == "rediss":
        kept.setdefault("ssl_cert_reqs", "required")
    path = parts.path if db is None else f"/{db}"
    return _join(parts.scheme, netloc, path, urlencode(kept))


def _with_login(parts: SplitResult, options: dict[str, str]) -> str:
    """The host, with what redis-py logs in with before it."""
    user = parts.username or quote(options.get("username", ""), safe="")
    password = parts.password or quote(options.get("password", ""), safe="")
    host = parts.netloc.rpartition("@")[2]
    if not password:
        return f"{user}@{host}" if user else host
    return f"{user}:{password}@{host}"


def _of_redis_py(netloc: str, path: str, query: str) -> str:
    pairs = [("db" if k == "virtual_host" else k, v) for k, v in parse_qsl(query)]
    return _join("unix", netloc, path, urlencode(pairs))


def _join(scheme: str, netloc: str, path: str, query: str) -> str:
    """Like `urlunsplit`, which would drop the empty host of a socket URL."""
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")


def redact(url: str) -> str:
    """Return `url` without what could be secret: passwords and query.

    A broker's may name several servers, with a `;` between each.
    """
    return ";".join(map(_redacted, servers_in(url)))


def _redacted(url: str) -> str:
    try:
        parts = urlsplit(url)
        userinfo, at, host = parts.netloc.rpartition("@")
        user = userinfo.partition(":")[0]
    except ValueError:
        return "(not a URL)"
    netloc = f"{user}:***@{host}" if at else host
    query = "&".join(
        f"{key}={value}" for key, value in parse_qsl(parts.query) if key in _SHOWN
    )
    return _join(parts.scheme, netloc, parts.path, query)
