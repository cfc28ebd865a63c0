"""The settings of the HTTP service: where it listens, who may do what, its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from conversations.json_value import Identifier, Text
from orchestrator.duration import Seconds
from orchestrator.loopback import is_loopback
from orchestrator.settings_section import Count, Section

_MIB = 1024 * 1024


class Scope(StrEnum):
    """What an API key allows."""

    READ = "read"
    """See tasks, answers, conversations, agents and the state of the system."""
    SUBMIT = "submit"
    """Submit and retry tasks, delete ended ones, write and delete conversations."""
    CANCEL = "cancel"
    """Ask for the end of tasks; with `submit`: delete tasks that have not ended."""
    APPROVE = "approve"
    """Decide on calls that wait for a person; not on those of one's own tasks."""
    ADMIN = "admin"
    """Delete, keep schedules, decide on one's own tasks too."""
    OPERATE = "operate"
    """With `read`: the figures of all tenants, queues, workers and endpoints."""


_HASH: Final = re.compile(r"^sha256:[0-9a-f]{64}$")


def _key_hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError(
            "must be sha256: and 64 hexadecimal digits (0-9, a-f), not"
            f" {len(value)} characters otherwise; `celeriac api-key` makes a key and"
            " its hash"
        )
    return value


class ApiKeySettings(Section):
    """One API key, as its hash; `celeriac api-key` makes both."""

    hash: Annotated[
        Text,
        Field(json_schema_extra={"pattern": _HASH.pattern}),
        AfterValidator(_key_hash),
    ]
    """`sha256:` and the hexadecimal hash of the key."""
    tenant: Identifier | None = None
    """Whose tasks it sees; null: the tenant of these settings."""
    scopes: tuple[Scope, ...] = (Scope.READ, Scope.SUBMIT, Scope.CANCEL)
    """What it allows."""
    expires_at: datetime | None = None
    """From when it is refused, with a time zone; null: never."""

    @model_validator(mode="after")
    def _has_a_time_zone(self) -> Self:
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise ValueError("expires_at must carry a time zone; add one, such as Z")
        return self


def plain_http(url: str) -> str:
    """Return an http(s) address without a slash at its end.

    Raises:
        ValueError: it is none, or holds more than an address.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and parts.port != 0 and url.isprintable()
    except ValueError:
        is_address, parts = False, urlsplit("")
    if not is_address or " " in url:
        raise ValueError("not an http(s) URL; write it like https://host:5555")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no login and no query; give the address alone")
    return url.rstrip("/")


class HttpSettings(Section):
    """The HTTP service."""

    host: Text = Field(default="127.0.0.1", min_length=1)
    """Where it listens; anything but this machine needs keys, and TLS or a proxy."""
    port: Count = Field(default=8000, ge=0, le=65535)
    """Its port; 0 takes a free one."""
    keys: dict[Identifier, ApiKeySettings] = Field(default_factory=dict)
    """API keys by name; without any, this machine alone may do everything."""
    tls_certificate: Path | None = None
    """A PEM file with the certificate chain; with `tls_key` it serves HTTPS."""
    tls_key: Path | None = None
    """A PEM file with the certificate's key."""
    behind_proxy: bool = False
    """A proxy before it ends TLS; also believes its X-Forwarded-* headers."""
    public_url: Text | None = None
    """Where browsers reach it, for links from Flower; null: `host` and `port`."""
    flower_url: Text | None = None
    """Where browsers reach Flower, for links from the page; null: no links."""
    cors_origins: tuple[Text, ...] = ()
    """Origins whose pages may call it, such as `https://app.example`; none: off."""
    max_body_bytes: Count = Field(default=8 * _MIB, ge=1024)
    """The largest request body."""
    max_connections: Count = Field(default=4096, ge=1)
    """Connections at once; requests of further ones are answered 503."""
    max_unfinished: Count = Field(default=100_000, ge=1)
    """Unfinished tasks of a tenant; further submits are answered 429."""
    max_submits_per_minute: Count | None = Field(default=None, ge=1)
    """Of a tenant at each replica; further ones are answered 429; null: unbounded."""
    header_timeout: Seconds = 10.0
    """Longest time for a request's line and headers, and for a new connection."""
    body_timeout: Seconds = 30.0
    """Longest time for a request's body."""
    send_timeout: Seconds = 30.0
    """How long a reader may take nothing of a stream before it is cut off."""
    max_wait: Seconds = 600.0
    """Longest time that a request waits for a task's end."""

    @field_validator("public_url", "flower_url")
    @classmethod
    def _is_plain_http(cls, url: str | None) -> str | None:
        return None if url is None else plain_http(url)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, mark, host = origin.partition("://")
            is_origin = scheme and mark and host and "/" not in host
            # Of a page that was opened as a file browsers send null, Electron file://.
            if origin not in {"*", "null", "file://"} and not is_origin:
                raise ValueError(
                    f"{origin[:64]!r} is no origin, which no browser would send; write"
                    " scheme, host and port alone, such as https://app.example"
                )
        return origins

    @property
    def warnings(self) -> Iterator[str]:
        """What of these settings does not go together."""
        if self.cors_origins and not self.keys:
            yield (
                "http.cors_origins has no effect without http.keys: no page of another"
                " origin is answered then; make a key with `celeriac api-key`"
            )

    @property
    def page_url(self) -> str:
        """Where browsers reach the page."""
        return self.public_url or self.address

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @field_validator("keys")
    @classmethod
    def _are_different(
        cls, keys: dict[str, ApiKeySettings]
    ) -> dict[str, ApiKeySettings]:
        by_hash: dict[str, str] = {}
        for name, key in keys.items():
            if by_hash.setdefault(key.hash, name) != name:
                raise ValueError(
                    f"{by_hash[key.hash]!r} and {name!r} have the same hash, and one"
                    " key has one tenant and one set of scopes; remove one of them"
                )
        return keys

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together; set both")
        if is_loopback(self.host):
            return self
        if not self.keys:
            raise ValueError(
                f"host {self.host} can be reached by others, and there are no keys;"
                " make one with `celeriac api-key`, or listen on 127.0.0.1"
            )
        if not self.tls_certificate and not self.behind_proxy:
            raise ValueError(
                f"host {self.host} can be reached by others, and keys would travel in"
                " the clear; set tls_certificate and tls_key, or behind_proxy: true"
                " when a proxy before it ends TLS"
            )
        return self

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls_certificate else "http"
