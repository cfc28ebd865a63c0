"""Who asks, for which tenant, and what they may do.

A key is known by its hash alone. Without keys only this machine is answered, and only
its own programs: not the pages that a browser on it has open.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from orchestrator.http.problem import Problem
from orchestrator.http_settings import ApiKeySettings, Scope
from orchestrator.loopback import is_loopback

ALL_SCOPES = frozenset(Scope)
KEY_COOKIE = "celeriac_key"
"""Holds the key of who has logged in to the page; scripts cannot read it."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL = "local"
"""The name of whoever asks where no keys are set."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whoever made a request."""

    name: str
    tenant: str
    scopes: frozenset[Scope]

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return Scope.ADMIN in self.scopes

    def may(self, scope: Scope) -> bool:
        """Whether a scope's deeds are allowed."""
        return self.is_admin or scope in self.scopes


def hash_of(key: str) -> str:
    """Return a key's hash as settings hold it.

    A fast hash is right: a key has 256 random bits, which nobody can try.
    """
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


class KeyRing:
    """The keys that are taken."""

    def __init__(self, keys: Mapping[str, ApiKeySettings], *, tenant: str) -> None:
        self._keys = dict(keys)
        self._tenant = tenant

    @property
    def is_open(self) -> bool:
        """Whether there are no keys, so that this machine needs none."""
        return not self._keys

    def local(self) -> Caller:
        """Return the caller that needs no key."""
        return Caller(name=LOCAL, tenant=self._tenant, scopes=ALL_SCOPES)

    def find(self, key: str) -> Caller | None:
        """Return whose key it is; None when it is none or has expired.

        Every known key is compared, so the time tells nothing.
        """
        given = hash_of(key)
        found: Caller | None = None
        for name, known in self._keys.items():
            if not hmac.compare_digest(given, known.hash):
                continue
            if known.expires_at is None or known.expires_at > datetime.now(UTC):
                found = Caller(
                    name=name,
                    tenant=known.tenant or self._tenant,
                    scopes=frozenset(known.scopes),
                )
        return found


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key; this machine needs none while no keys are set.",
)


async def authenticate(
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    """Return who asks.

    Raises:
        Problem: 401 without a key that is known, 403 for a page of another site.
    """
    keys: KeyRing = request.app.state.keys
    if keys.is_open:
        _check_own_machine(request)
        return _noted(request, keys.local())
    key = shown.credentials.strip() if shown else _key_of_page(request)
    caller = keys.find(key) if key else None
    if caller is None:
        raise no_key()
    return _noted(request, caller)


def no_key() -> Problem:
    """What is answered to who comes without a key that is known."""
    return Problem(
        401,
        "invalid_api_key",
        "a valid API key is needed; send it as `Authorization: Bearer <key>`",
        headers={"WWW-Authenticate": "Bearer"},
    )


def is_stranger(request: Request) -> bool:
    """Whether a request comes without a key that is known, where one is needed."""
    keys: KeyRing = request.app.state.keys
    if keys.is_open:
        return False
    scheme, key = get_authorization_scheme_param(request.headers.get("authorization"))
    if scheme.lower() != "bearer":
        key = request.cookies.get(KEY_COOKIE, "")
    return keys.find(key.strip()) is None


def _noted(request: Request, caller: Caller) -> Caller:
    """Leave who asks where the audit finds it."""
    request.state.caller = caller
    return caller


def _key_of_page(request: Request) -> str | None:
    """Return the key that was given to the page's login, from this page alone.

    Raises:
        Problem: another site's page has the browser change something.
    """
    key = request.cookies.get(KEY_COOKIE)
    if key and request.method not in _SAFE_METHODS:
        check_own_page(request)
    return key


def check_own_page(request: Request) -> None:
    """Refuse what another site's page has the browser send.

    Raises:
        Problem: 403.
    """
    if not _is_own_page(request):
        raise Problem(
            403,
            "origin_refused",
            "a page of another origin may not use this page's login; send the API key"
            " as `Authorization: Bearer <key>`",
        )


def check_sender(request: Request) -> None:
    """Refuse another site's page; a client that is no browser names no page.

    Raises:
        Problem: 403.
    """
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        check_own_page(request)


def _is_own_page(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return _origin_place(request) == request.headers.get("host")


def _origin_place(request: Request) -> str:
    """Return the host and port of the page that asks; empty when there is none."""
    try:
        return urlsplit(request.headers.get("origin", "")).netloc
    except ValueError:
        return ""


def _check_own_machine(request: Request) -> None:
    """Refuse what a page in this machine's browser may have sent.

    Such a page reaches this address by a plain request of another origin, or by a name
    of its own that it lets point here.
    """
    host = request.headers.get("host", "")
    if not is_loopback(_host_name(host)):
        raise Problem(
            403,
            "host_refused",
            "without API keys only this machine's own names are answered;"
            " use 127.0.0.1 or localhost, or set http.keys",
        )
    if "origin" in request.headers and _origin_place(request) != host:
        raise Problem(
            403,
            "origin_refused",
            "without API keys no page of another origin is answered; set http.keys",
        )


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def needs(scope: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    """Return the dependency that lets in who has a scope."""

    async def check(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        check_scope(caller, scope)
        return caller

    return check


def check_scope(caller: Caller, scope: Scope) -> None:
    """Refuse who does not have a scope.

    Raises:
        Problem: 403.
    """
    if not caller.may(scope):
        raise Problem(
            403,
            "insufficient_scope",
            f"the API key does not have the scope {scope.value};"
            " use another key, or let the operator add the scope",
        )


Reader = Annotated[Caller, Depends(needs(Scope.READ))]
Submitter = Annotated[Caller, Depends(needs(Scope.SUBMIT))]
Canceller = Annotated[Caller, Depends(needs(Scope.CANCEL))]
Approver = Annotated[Caller, Depends(needs(Scope.APPROVE))]
Admin = Annotated[Caller, Depends(needs(Scope.ADMIN))]
