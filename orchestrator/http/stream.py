"""Server-sent events: a response that is cut off when nobody reads it.

What is not read waits in the log, not here: one page of events at most is in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.errors import OrchestratorError
from orchestrator.events import TaskEvent
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.task_reader import Viewer

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 10.0
"""Between two signs of life of a silent stream; proxies commonly cut after 30 to 60."""
KEEPALIVE = b": keepalive\n\n"
NOTHING = b""
"""A piece for what the reader is not told: a sign of life is sent when it is time."""
ABORT = "celeriac.abort"
"""The extension by which our server lets a response cut its connection."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def follow(
    celeriac: AsyncOrchestrator, task_id: str, *, after: int, tenant: str
) -> AsyncIterator[TaskEvent | None]:
    """Yield events beyond `after` up to the end event; None when none came for a while.

    Ends without an end event when the task has ended and its log holds no further one.
    """
    viewer = Viewer(celeriac, task_id, tenant=tenant)
    while True:
        await viewer.still_there()
        events = await celeriac.read_events(
            task_id, after=after, wait_seconds=KEEPALIVE_SECONDS, tenant=tenant
        )
        for event in events:
            after = event.sequence
            yield event
            if event.type.is_end:
                return
        if not events:
            if (await celeriac.get(task_id, tenant=tenant)).status.is_terminal:
                return
            yield None


class EventStream(Response):
    """Sends pieces as they come; ends with them, or when the reader is gone."""

    media_type = "text/event-stream"

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        send_timeout: float,
        on_gone: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Make the response; `on_gone` is called when the reader leaves, or is cut."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._pieces = pieces
        self._send_timeout = send_timeout
        self._on_gone = on_gone
        self._is_cut = False
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(scope, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the service stops
            self._cut(scope)
            raise
        finally:
            for task in (pump, gone):
                task.cancel()
            await asyncio.wait({pump, gone})
            if pump.cancelled() or self._is_cut:
                await self._tell_gone()
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error

    async def _tell_gone(self) -> None:
        if self._on_gone is None:
            return
        try:
            await self._on_gone()
        except OrchestratorError as exc:
            logger.warning("the run of a reader that has gone goes on: %s", exc)

    async def _pump(self, scope: Scope, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        )
        self._sent_at = monotonic()
        try:
            async for piece in self._pieces:
                if sent := piece or self._sign_of_life():
                    await self._send(send, sent)
        except TimeoutError:
            logger.info("stream cut: its reader took nothing for so long")
            self._cut(scope)
            return
        except OrchestratorError as exc:
            # A reader of events comes back with the last number that it saw.
            logger.warning("stream cut: %s", exc)
            self._cut(scope)
            return
        with suppress(TimeoutError):
            await self._send(send, b"", more=False)

    def _sign_of_life(self) -> bytes:
        return KEEPALIVE if monotonic() - self._sent_at >= KEEPALIVE_SECONDS else b""

    def _cut(self, scope: Scope) -> None:
        """Cut the connection, so that a client sees a break and not an end."""
        self._is_cut = True
        abort: Callable[[], Any] | None = (
            scope.get("extensions", {}).get(ABORT, {}).get("call")
        )
        if abort is not None:
            abort()

    async def _send(self, send: Send, piece: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._send_timeout):
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        self._sent_at = monotonic()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
