"""A scripted OpenAI-compatible endpoint over real HTTP, with faults.

It always says that no model was called: in `system_fingerprint`, in a header, in the
model list. `python -m workers.llm.double` runs it alone and prints one line of JSON
with its address once it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from types import TracebackType
from typing import Self

from aiohttp import web

from conversations.json_value import JsonObject
from workers.llm.demo_script import demo_reply
from workers.llm.double_script import (
    HttpReply,
    InvalidScript,
    Script,
    http_reply,
    read_script,
)
from workers.llm.endpoint import DEFAULT_MODEL
from workers.llm.reply import Scripted, default_text
from workers.llm.reply_body import FINGERPRINT, OWNER, chunk_bodies, whole_body

HEADER = "x-celeriac-double"
_PARENT_CHECK_SECONDS = 0.5
_BACKLOG = 2048
_TURNS_OF_A_CONNECTION = 2
"""Of the event loop, from its acceptance until its server knows it."""
_HIGHEST_PORT = 65535
_EX_USAGE = 2
_PADDING = b" " * 64 * 1024
_MAX_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class SeenRequest:
    """A request that the double received; the repr does not show its headers."""

    body: JsonObject
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"SeenRequest({self.body!r})"


class Double:
    """The endpoint, for `async with`; serves on a loopback port.

    Without a script every call gets a text that says what this is. A call beyond
    the last reply is answered with HTTP 500.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        port: int = 0,
        latency_seconds: float = 0.0,
        models: Iterable[str] = (DEFAULT_MODEL,),
    ) -> None:
        self.requests: list[SeenRequest] = []
        """What was asked, in order."""
        self.unused: list[HttpReply] = []
        """Replies that nobody has asked for yet."""
        self.context_tokens: int | None = None
        """Told for every model by `/api/ps`, as Ollama does; None: there is no such."""
        self.disconnected = asyncio.Event()
        """Set once a client has left before its answer was complete."""
        self._answer: Callable[[JsonObject], Scripted | Awaitable[Scripted]]
        if script is None:
            self._answer = self._default
        elif callable(script):
            self._answer = script
        else:
            self.unused = [http_reply(scripted) for scripted in script]
            self._answer = self._next
        self._port = port
        self._latency = latency_seconds
        self._models = tuple(models)
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.5,
        )

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._listener = create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
        await web.SockSite(self._runner, self._listener, backlog=_BACKLOG).start()
        self._port = self._listener.getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # asyncio leaves a connection open that it accepts while its server closes
        # (https://github.com/python/cpython/issues/109564): they are ours first.
        asyncio.get_running_loop().remove_reader(self._listener)
        for _ in range(_TURNS_OF_A_CONNECTION):
            await asyncio.sleep(0)
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        application.add_routes(
            [
                web.get("/v1/models", self._list_models),
                web.post("/v1/chat/completions", self._complete),
                web.get("/double/log", self._log),
                web.get("/api/ps", self._loaded),
            ]
        )
        return application

    async def _list_models(self, _: web.Request) -> web.Response:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
            for name in self._models
        ]
        return _json({"object": "list", "data": models})

    async def _loaded(self, _: web.Request) -> web.Response:
        if self.context_tokens is None:
            return _error(404, "this double is no Ollama")
        loaded = [
            {"name": name, "context_length": self.context_tokens}
            for name in {*self._models, *(str(r.body["model"]) for r in self.requests)}
        ]
        return _json({"models": loaded})

    async def _log(self, _: web.Request) -> web.Response:
        seen = [request.body for request in self.requests]
        return _json({"requests": seen, "unused": len(self.unused)})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _error(400, "the body must be a JSON object with model and messages")
        self.requests.append(SeenRequest(body=body, headers=request.headers.copy()))
        try:
            answer = self._answer(body)
            scripted = await answer if isinstance(answer, Awaitable) else answer
            return await self._send(request, body, http_reply(scripted))
        except _UnexpectedCall as exc:
            return _error(500, str(exc))
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise

    async def _send(
        self, request: web.Request, body: JsonObject, reply: HttpReply
    ) -> web.StreamResponse:
        await asyncio.sleep(self._latency + reply.delay_seconds)
        if reply.hang:
            await asyncio.Event().wait()
        if reply.refuse:
            return _refused(request)
        if reply.status != 200 and reply.body is None:
            text = reply.text or "scripted error"
            return _error(reply.status, text, headers=reply.headers)
        return await _send_body(request, body, reply)

    def _default(self, body: JsonObject) -> str:
        return default_text(str(body.get("model")), self.url)

    def _next(self, body: JsonObject) -> HttpReply:
        if not self.unused:
            messages = body.get("messages")
            count = len(messages) if isinstance(messages, list) else 0
            raise _UnexpectedCall(
                f"the double's script has no reply for call {len(self.requests)}"
                f" ({count} messages); add one to the script"
            )
        return self.unused.pop(0)


class _UnexpectedCall(Exception):
    """The script is exhausted."""


async def _send_body(
    request: web.Request, body: JsonObject, reply: HttpReply
) -> web.StreamResponse:
    content_type, pieces = _pieces(body, reply)
    headers = {HEADER: FINGERPRINT, "content-type": content_type, **reply.headers}
    response = web.StreamResponse(status=reply.status, headers=headers)
    await response.prepare(request)
    for start in range(0, reply.padding_bytes, len(_PADDING)):
        await response.write(_PADDING[: reply.padding_bytes - start])
    for piece in pieces[: reply.cut_after]:
        if reply.drip_seconds:
            await asyncio.sleep(reply.drip_seconds)
        await response.write(piece)
    if reply.cut_after is None:
        await response.write_eof()
    elif request.transport is not None:
        request.transport.close()
    return response


def _refused(request: web.Request) -> web.StreamResponse:
    """Close the connection; the response that must be returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _pieces(body: JsonObject, reply: HttpReply) -> tuple[str, list[bytes]]:
    """Return the content type and the pieces in which the reply is sent."""
    if reply.body is not None:
        events = re.split(r"(?<=\n\n)", reply.body)  # so that streams drip and cut
        return "application/json", [event.encode() for event in events if event]
    model = str(body.get("model"))
    prompt_chars = len(json.dumps(body.get("messages"), ensure_ascii=False))
    if not body.get("stream"):
        whole = whole_body(reply, model=model, prompt_chars=prompt_chars)
        data = json.dumps(whole, ensure_ascii=False).encode()
        middle = len(data) // 2
        return "application/json", [data[:middle], data[middle:]]
    chunks = list(chunk_bodies(reply, model=model, prompt_chars=prompt_chars))
    options = body.get("stream_options")
    if not (isinstance(options, dict) and options.get("include_usage")):
        chunks.pop()
    events = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return (
        "text/event-stream",
        [f"data: {event}\n\n".encode() for event in (*events, "[DONE]")],
    )


def _json(
    payload: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.json_response(
        payload, status=status, headers={HEADER: FINGERPRINT, **(headers or {})}
    )


def _error(
    status: int, message: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    error = {"message": message, "type": "scripted_error", "param": None, "code": None}
    return _json({"error": error}, status=status, headers=headers)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST_PORT):
        raise argparse.ArgumentTypeError(f"must be 0 to {_HIGHEST_PORT}")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workers.llm.double",
        description="A scripted OpenAI-compatible endpoint; it calls no model.",
    )
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free one")
    script = parser.add_mutually_exclusive_group()
    script.add_argument("--script", type=Path, help="file of replies: YAML, Python")
    script.add_argument("--demo", action="store_true", help="quote the documents")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per reply")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="listed in /v1/models")
    parser.add_argument("--exit-with-parent", action="store_true")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    parent = os.getppid()  # before the address is told: then it may end at any time
    script: Script | None = demo_reply if arguments.demo else None
    if arguments.script:
        script = read_script(arguments.script)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Double(
        script,
        port=arguments.port,
        latency_seconds=arguments.latency,
        models=(arguments.model,),
    ) as double:
        sys.stdout.write(json.dumps({"url": double.url}) + "\n")
        sys.stdout.flush()
        if arguments.exit_with_parent:
            await _until_gone(parent, stop)
        else:
            await stop.wait()
    if double.unused:
        sys.stderr.write(f"{len(double.unused)} scripted replies were not used\n")


async def _until_gone(parent: int, stop: asyncio.Event) -> None:
    while not stop.is_set() and os.getppid() == parent:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_CHECK_SECONDS):
                await stop.wait()


def main() -> int:
    """Serve until a signal comes; return the exit code."""
    arguments = _arguments()
    try:
        asyncio.run(_serve(arguments))
    except InvalidScript as exc:
        sys.stderr.write(f"double: {exc}\n")
        return _EX_USAGE
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        sys.stderr.write(
            f"double: port {arguments.port} cannot be used ({reason});"
            " choose another with --port, or leave it out for a free one\n"
        )
        return _EX_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
