"""The doorbell: the only code that produces Celery messages.

A message carries ids and a label; it may be lost, repeated or reordered without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol

from celery import Celery
from kombu.messaging import Producer

from orchestrator.celery_settings import RUN_TASK
from orchestrator.errors import QueueUnavailable
from orchestrator.store import Doorbell
from orchestrator.trace_context import HEADER

ENQUEUE_SECONDS = 3.0
"""How long ringing may take; the task is accepted anyway."""
CLOSE_SECONDS = 3.0
"""How long closing may take; a broker that hangs keeps one send a little longer."""
CELERY_MOST_URGENT = 9
"""Celery on Redis serves priority 0 first, we call the most urgent one 9."""


class TaskQueue(Protocol):
    """Tells workers that tasks are due."""

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        """Ring for tasks, in order.

        Raises:
            QueueUnavailable: the broker took none or only some; the sweeper repeats.
        """
        ...

    async def check(self) -> None:
        """Ask the broker for an answer.

        Raises:
            QueueUnavailable: it gave none.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class CeleryTaskQueue:
    """Rings by Celery messages.

    The message's id is the task's id, so that Flower's pages and Celery's revoke speak
    of our tasks; a repeated ring is the same Celery task delivered again.

    One thread with one connection of its own sends: Celery's producer pools are global
    to the process and belong to the worker where there is one.
    """

    def __init__(self, config: dict[str, Any], *, shown_url: str) -> None:
        self._app = Celery("celeriac", set_as_current=False)
        self._app.conf.update(_for_producers(config))
        self._shown_url = shown_url
        self._producer: Producer | None = None
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celeriac-queue")

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        if not doorbells:
            return
        try:
            await self._in_thread(partial(self._send, tuple(doorbells)))
        except Exception as exc:
            raise QueueUnavailable(
                f"the broker at {self._shown_url} did not take the message"
                f" ({type(exc).__name__}); the task is stored and is rung for again"
                " once the broker answers"
            ) from exc

    async def check(self) -> None:
        try:
            await self._in_thread(self._ping)
        except Exception as exc:
            raise QueueUnavailable(
                f"the broker at {self._shown_url} does not answer"
                f" ({type(exc).__name__}); start it, or correct CELERY_BROKER_URL"
            ) from exc

    async def _in_thread(self, send: Callable[[float], None]) -> None:
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(
            self._thread, send, monotonic() + ENQUEUE_SECONDS
        )
        sending.add_done_callback(_note_outcome)
        async with asyncio.timeout(ENQUEUE_SECONDS):
            await asyncio.shield(sending)

    async def aclose(self) -> None:
        """Close the connection, at once or when a broker that hangs lets go of it."""
        loop = asyncio.get_running_loop()
        self._closing = True
        with suppress(RuntimeError, TimeoutError):  # closed before; hangs
            closed = loop.run_in_executor(self._thread, self._disconnect)
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(closed)
        self._thread.shutdown(wait=False)

    def _send(self, doorbells: tuple[Doorbell, ...], give_up_at: float) -> None:
        """Send, unless the caller has given up: sends must not pile up behind a hang.

        Raises:
            TimeoutError: nobody waits for it any more.
        """
        if self._closing or monotonic() > give_up_at:
            raise TimeoutError("its turn came too late")
        try:
            producer = self._connected()
            with producer.batch():  # type: ignore[no-untyped-call]
                for bell in doorbells:
                    self._ring(bell, producer)
        except Exception:
            self._disconnect()
            raise

    def _ping(self, give_up_at: float) -> None:
        """Open a connection of its own, which asks the broker to answer."""
        if self._closing or monotonic() > give_up_at:
            raise TimeoutError("its turn came too late")
        with self._app.connection_for_write() as connection:
            connection.default_channel  # noqa: B018 - opened when it is looked at

    def _ring(self, bell: Doorbell, producer: Producer) -> None:
        self._app.send_task(
            RUN_TASK,
            kwargs={"tenant": bell.tenant, "task_id": bell.task_id},
            task_id=bell.task_id,
            queue=bell.queue,
            priority=CELERY_MOST_URGENT - bell.priority,
            shadow=f"agent.{bell.agent_name}",
            argsrepr=f"({bell.task_id})",
            kwargsrepr=f"{{tenant: {bell.tenant}}}",
            ignore_result=True,
            headers={HEADER: bell.traceparent},
            retry=False,
            producer=producer,
        )

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = self._app.amqp.Producer(self._app.connection_for_write())
        return self._producer

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                producer.connection.release()


def _for_producers(config: dict[str, Any]) -> dict[str, Any]:
    options = {**config["broker_transport_options"], "socket_timeout": 2.0}
    return {
        **config,
        "broker_transport_options": options,
        "broker_connection_timeout": 2.0,
        "task_publish_retry": False,
    }


def _note_outcome(sending: asyncio.Future[None]) -> None:
    """Take the error of a send that outlived its wait, so that nobody logs it."""
    if not sending.cancelled():
        sending.exception()
