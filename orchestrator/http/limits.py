"""What is refused before any route sees it, and headers that every answer carries.

Plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conversations.whole_number import whole_number
from orchestrator.http import audit
from orchestrator.http.auth import is_stranger, no_key
from orchestrator.http.problem import Problem, problem_of, response_of
from orchestrator.http_settings import HttpSettings

MAX_URL_BYTES = 8000
"""More than any route needs; servers before us commonly take 8 kB."""
STRANGERS_BODY_BYTES = 64 * 1024
"""Of a request without a key that is known, which is refused once its body was read.
The server below us holds as much of any."""
REQUEST_ID = "x-request-id"
CROWDED = "celeriac.crowded"
"""The extension by which our server says that it has too many connections."""
LIVENESS = "/healthz"
"""Is answered in any crowd: who asks it would end a process that works."""
CROWD_RETRY_SECONDS = 2
_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


Wrap = Callable[[ASGIApp], ASGIApp]


def _as_it_is(app: ASGIApp) -> ASGIApp:
    return app


class RequestLimits:
    """Bounds connections, URLs and bodies; names each request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: HttpSettings,
        answering: set[asyncio.Task[Any]],
        wrap: Wrap = _as_it_is,
    ) -> None:
        """Guard the application.

        Args:
            app: What answers.
            settings: The bounds.
            answering: Is kept as the tasks whose requests are not answered yet.
            wrap: Goes around its answers and our refusals.
        """
        self._app = wrap(app)
        self._settings = settings
        self._answering = answering
        self._wrap = wrap

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        self._answering.add(task)
        try:
            await self._answer(scope, receive, send)
        finally:
            self._answering.discard(task)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        scope.setdefault("state", {})
        marked = _Marked(scope, send, _request_id(headers))
        try:
            self._check_crowd(scope)
            _check_url(scope)
            _check_host(scope, headers)
            body = self._body(scope, headers, receive)
        except Problem as problem:
            problem.headers["Connection"] = "close"
            await self._refuse(problem, scope, receive, marked)
            return
        try:
            await self._app(scope, body, marked)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:  # the server stops, after its patience
            if not marked.has_started:
                await self._refuse(_stopping(), scope, body, marked)
        except Exception as exc:
            if not marked.has_started:
                await self._refuse(problem_of(exc), scope, body, marked)
            raise  # the server logs it

    async def _refuse(
        self, problem: Problem, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = response_of(problem, scope["path"])
        await self._wrap(answer)(scope, receive, send)

    def _check_crowd(self, scope: Scope) -> None:
        crowded = CROWDED in scope.get("extensions", {})
        if crowded and scope["path"] != LIVENESS:
            raise Problem(
                503,
                "too_many_connections",
                f"more than {self._settings.max_connections} connections are open here;"
                " ask again later, or another replica",
                headers={"Retry-After": str(CROWD_RETRY_SECONDS)},
            )

    def _body(self, scope: Scope, headers: Headers, receive: Receive) -> _BoundedBody:
        """Return the body that the head has announced, if it can be taken."""
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(
                415,
                "encoding_refused",
                "compressed bodies are not taken; send it without Content-Encoding",
                field="Content-Encoding",
            )
        length = whole_number(headers.get("content-length", "0"))
        most = self._settings.max_body_bytes
        refusal = too_large(most)
        is_large = length is None or length > STRANGERS_BODY_BYTES
        may_be_large = is_large or "transfer-encoding" in headers
        if may_be_large and is_stranger(Request(scope)):
            most, refusal = STRANGERS_BODY_BYTES, no_key()
            refusal.headers["Connection"] = "close"
        if length is None or length > most:
            raise refusal
        return _BoundedBody(
            receive, most=most, refusal=refusal, seconds=self._settings.body_timeout
        )


class _BoundedBody:
    """A request's body, no larger and no slower than allowed."""

    def __init__(
        self, receive: Receive, *, most: int, refusal: Problem, seconds: float
    ) -> None:
        self._receive = receive
        self._left = most
        self._refusal = refusal
        self._seconds = seconds
        self._deadline: float | None = None
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408,
                "body_timeout",
                f"the body did not come within {self._seconds:g} s; send it faster",
                headers={"Connection": "close"},
            ) from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise self._refusal
            self._complete = not message.get("more_body", False)
        return message


def _stopping() -> Problem:
    return Problem(
        503,
        "shutting_down",
        "the service stops and could not wait for the answer; send the request again",
        headers={"Connection": "close", "Retry-After": "1"},
    )


def too_large(limit: int) -> Problem:
    """A body that exceeds its limit."""
    return Problem(
        413,
        "payload_too_large",
        f"the body exceeds {limit} bytes; send less, or a reference to it",
        headers={"Connection": "close"},
        limit=limit,
    )


def _check_url(scope: Scope) -> None:
    path = scope.get("raw_path") or scope["path"].encode()
    if len(path) + len(scope["query_string"]) > MAX_URL_BYTES:
        raise Problem(
            414, "url_too_long", f"the URL exceeds {MAX_URL_BYTES} bytes; shorten it"
        )
    segments = scope["path"].split("/")
    if "\x00" in scope["path"] or any(part in (".", "..") for part in segments):
        raise Problem(404, "not_found", "there is nothing at this path")


def _check_host(scope: Scope, headers: Headers) -> None:
    """Refuse what two servers could read as requests to different hosts (RFC 9112)."""
    hosts = len(headers.getlist("host"))
    if hosts > 1 or (not hosts and scope.get("http_version") == "1.1"):
        raise Problem(
            400,
            "invalid_host",
            f"a request has exactly one Host header (got {hosts}); send one",
            field="Host",
        )


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else f"req_{uuid4().hex}"


class _Marked:
    """Sends an answer with the headers that every answer carries."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            audit.note(
                self._scope, status=message["status"], request_id=self._request_id
            )
        await self._send(message)
