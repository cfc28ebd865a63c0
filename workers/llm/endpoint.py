"""Where a model answers: address, key, headers and limits as checked values.

Owns what may be shown of an endpoint; sends nothing.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from orchestrator.loopback import is_loopback
from orchestrator.proxy_url import check_proxy_url
from workers.errors import InvalidEndpoint
from workers.llm.secret_text import Secrets

if TYPE_CHECKING:
    import httpx

DEFAULT_BASE_URL = "http://localhost:11434/v1"
DEFAULT_MODEL = "gpt-oss:20b"
_OLLAMA_PORT = 11434
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def proxy_login(username: str, password: str) -> dict[str, str]:
    """Return the header that logs in to a proxy (RFC 7617)."""
    login = f"{username}:{password}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(login).decode()}"}


class CallLimits(BaseModel):
    """What one call may take; whatever passes a limit ends the call."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    connect_seconds: float = Field(default=5.0, gt=0)
    """Until the connection stands."""
    first_byte_seconds: float = Field(default=300.0, gt=0)
    """Until a stream's first byte; a cold model loads meanwhile. A whole answer has
    no byte before it is ready, so only the total bounds it."""
    idle_seconds: float = Field(default=120.0, gt=0)
    """Between two pieces of an answer."""
    total_seconds: float = Field(default=600.0, gt=0)
    """For the whole call, unless the request says another."""
    max_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Of the answer, decompressed."""
    max_connections: int = Field(default=10_000, ge=1)
    """Open at once; calls beyond it wait, within their total."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible endpoint; its repr shows no secret."""

    base_url: str
    api_key: SecretStr | None = None
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    proxy: SecretStr | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        if self.proxy is not None:
            _check_proxy(self.proxy)
        for name in self.headers:
            if not _HEADER_NAME.fullmatch(name):
                raise InvalidEndpoint(
                    f"{name!r} is no name of a header; use letters, digits and hyphens"
                )
        headers = self.request_headers().items()
        if broken := [(name, len(value)) for name, value in headers if _breaks(value)]:
            name, length = broken[0]
            del headers  # from what an error that is reported with its locals shows
            raise InvalidEndpoint(
                f"the value of header {name!r} holds a line break or a character"
                f" outside ASCII ({length} characters); check the key"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(_split(self.base_url).hostname or "")

    @property
    def looks_like_ollama(self) -> bool:
        """Whether the port is Ollama's."""
        return _split(self.base_url).port == _OLLAMA_PORT

    @property
    def how_to_reach(self) -> str:
        """The remedy when nobody answers."""
        start = "start it (`ollama serve`)" if self.is_loopback else "check the address"
        return f"{start} or set OPENAI_BASE_URL"

    def http_proxy(self) -> httpx.Proxy | None:
        """Return the proxy; its login goes as a header, which any client takes."""
        if self.proxy is None:
            return None
        import httpx  # noqa: PLC0415 - four MiB, for those who have a proxy

        url = httpx.URL(self.proxy.get_secret_value())
        headers = proxy_login(url.username, url.password) if url.userinfo else {}
        bare = url.copy_with(username=None, password=None)
        return httpx.Proxy(bare, headers=headers)

    def tls_context(self, *, proxy: str | None = None) -> ssl.SSLContext | bool:
        """Return what verifies the endpoint and a proxy before it.

        True, aiohttp's own, where nothing is encrypted: false would verify nobody.

        Raises:
            InvalidEndpoint: a file of certificates cannot be used.
        """
        if not any(url.startswith("https:") for url in (self.base_url, proxy or "")):
            return True
        import httpx  # noqa: PLC0415 - it knows which authorities; without TLS none

        context = httpx.create_ssl_context()
        name = "ca_file"
        try:
            if self.ca_file is not None:
                context = ssl.create_default_context(cafile=self.ca_file)
            name = "client_certificate"
            if self.client_certificate is not None:
                # OpenSSL would ask the terminal for the passphrase of a key.
                context.load_cert_chain(self.client_certificate, password=str)
        except (OSError, ValueError) as exc:  # ssl's errors are among them
            raise InvalidEndpoint(
                f"{name} of {self.base_url} cannot be used ({type(exc).__name__});"
                " give a readable PEM file, its key without a passphrase"
            ) from exc
        return context

    def request_headers(self) -> dict[str, str]:
        """Headers of every call, the key among them."""
        headers = {n: value.get_secret_value() for n, value in self.headers.items()}
        key = self.api_key.get_secret_value().strip() if self.api_key else ""
        if key:
            headers |= {"Authorization": f"Bearer {key}"}
        return headers

    @cached_property
    def secrets(self) -> Secrets:
        """What may stand in no text that is kept or shown."""
        parts = [part for v in self.request_headers().values() for part in _parts(v)]
        if self.proxy is not None:
            import httpx  # noqa: PLC0415 - as in `http_proxy`

            url = self.proxy.get_secret_value()
            login = httpx.URL(url)
            given = _split(url).password or ""
            parts += [given, login.password, *_parts_of_login(login)]
        return Secrets(parts)

    def scrub(self, text: str, *, is_cut: bool = False) -> str:
        """Return a foreign text without the key and the headers' values.

        Args:
            text: It.
            is_cut: Whether it is the beginning of a longer one.
        """
        clean = self.secrets.without(text)
        return self.secrets.without_begun(clean) if is_cut else clean


def _breaks(header: str) -> bool:
    return not (header.isascii() and header.isprintable())


def _parts(value: str) -> Iterator[str]:
    """Yield what of a header's value is secret: all of it, and what it is made of."""
    for part in (value, *re.split(r"[;,]\s*", value)):
        yield part.strip()
        scheme, _, last = part.strip().rpartition(" ")
        yield last
        yield part.partition("=")[2].strip()
        if scheme.lower() == "basic":
            yield from _password_in(last)


def _password_in(login: str) -> Iterator[str]:
    with suppress(ValueError):
        yield b64decode(login, validate=True).decode().partition(":")[2]


def _parts_of_login(url: httpx.URL) -> Iterator[str]:
    if url.userinfo:
        for value in proxy_login(url.username, url.password).values():
            yield from _parts(value)


def _checked_url(base_url: str) -> str:
    parts = _split(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidEndpoint(
            f"base_url must be an http or https address ({len(base_url)} characters"
            f" given); use one such as {DEFAULT_BASE_URL}"
        )
    if not _can_be_called(base_url.strip(), parts.hostname):
        raise InvalidEndpoint(
            "base_url holds a blank, a control character or a name that no host can"
            f" have ({len(base_url)} characters given); correct it"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidEndpoint(
            f"base_url of host {parts.hostname!r} must not carry a user, a password,"
            " a query or a fragment; pass secrets as api_key or headers"
        )
    scheme, _, rest = base_url.strip().rstrip("/").partition(":")
    return f"{scheme.lower()}:{rest}"


def _check_proxy(proxy: SecretStr) -> None:
    try:
        check_proxy_url(proxy.get_secret_value())
    except ValueError as exc:
        problem = str(exc)
    else:
        return
    raise InvalidEndpoint(f"proxy: {problem}")


def _can_be_called(url: str, host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return url.isprintable() and " " not in url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises when it is no number
    except ValueError:
        raise InvalidEndpoint(
            f"base_url cannot be read as an address ({len(url)} characters given);"
            f" use one such as {DEFAULT_BASE_URL}"
        ) from None
    return parts
