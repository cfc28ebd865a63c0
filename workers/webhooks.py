"""Delivery of signed webhooks on the end of tasks, from the store.

A webhook stands in the store until a receiver has said 2xx or the attempts are used up,
so no crash loses one; a receiver may get it twice and knows it by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import httpx

from orchestrator.errors import OrchestratorError, TaskNotFound
from orchestrator.settings import WebhookSettings
from orchestrator.store import TaskStore
from orchestrator.task import Task
from orchestrator.webhook import is_allowed, webhook_body, webhook_headers
from orchestrator.webhook_store import DueWebhook, TakenWebhooks

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
"""Between two looks; a webhook follows its task's end by about this."""
SOON_SECONDS: Final = 0.1
"""After an answer of a receiver that had no place left, until the next look."""
AT_ONCE: Final = 64
"""Deliveries of one process together."""
AT_ONCE_TO_ONE: Final = 8
"""Of these to one receiver: one that hangs must not keep the others waiting."""
MOST_SILENT: Final = 1000
"""Receivers that are remembered for not answering."""
FIRST_BACKOFF_SECONDS: Final = 5.0
LONGEST_BACKOFF_SECONDS: Final = 3600.0
NOTHING: Final = TakenWebhooks((), more=False)


class WebhookDeliverer:
    """Sends what is due. Follows no redirect and obeys the allow-list."""

    def __init__(self, store: TaskStore, settings: WebhookSettings) -> None:
        self._store = store
        self._settings = settings
        self._lease_seconds = settings.timeout * 2 + 10
        self._sending: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()
        """Deliveries under way to each receiver."""
        self._silent: dict[str, None] = {}
        """Those that did not answer at last: each gets one delivery at a time."""
        self._has_place = asyncio.Event()
        """Set when one has answered that had no place left; more may wait for it."""

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = httpx.Timeout(self._settings.timeout)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            try:
                while True:
                    await self._begin(client)
            finally:
                for sending in self._sending:
                    sending.cancel()
                await asyncio.gather(*self._sending, return_exceptions=True)

    async def _begin(self, client: httpx.AsyncClient) -> None:
        """Begin to deliver what is due, and wait until there may be more to do."""
        self._has_place.clear()
        room = AT_ONCE - len(self._sending)
        due, more = await self._take(room) if room else NOTHING
        for webhook in due:
            self._busy[webhook.receiver] += 1
            sending = asyncio.create_task(self._see_to(client, webhook))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        if len(self._sending) == AT_ONCE:
            await asyncio.wait(
                self._sending,
                timeout=PAUSE_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        elif not more:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._has_place.wait()
                    await asyncio.sleep(SOON_SECONDS)

    def _places(self) -> dict[str, int]:
        """How many more deliveries may go to those receivers that have had some."""
        places = {
            receiver: max(0, AT_ONCE_TO_ONE - busy)
            for receiver, busy in self._busy.items()
        }
        for receiver in self._silent:
            places[receiver] = 0 if self._busy[receiver] else 1
        return places

    async def _take(self, limit: int) -> TakenWebhooks:
        try:
            return await self._store.take_webhooks(
                limit=limit,
                lease_seconds=self._lease_seconds,
                most_each=AT_ONCE_TO_ONE,
                places=self._places(),
            )
        except OrchestratorError as exc:
            logger.warning("webhooks missed", extra={"error": str(exc)})
        except Exception:
            logger.exception("webhooks failed")
        return NOTHING

    async def _see_to(self, client: httpx.AsyncClient, webhook: DueWebhook) -> None:
        """Try one delivery; whatever goes wrong, it is due again after its lease."""
        task_id = webhook.task_id
        try:
            await self._deliver(client, webhook)
        except OrchestratorError as exc:
            facts = {"task_id": task_id, "error": str(exc)}
            logger.warning("webhook missed", extra=facts)
        except Exception:
            logger.exception("webhook failed", extra={"task_id": task_id})
        finally:
            receiver = webhook.receiver
            if self._busy[receiver] >= AT_ONCE_TO_ONE and receiver not in self._silent:
                self._has_place.set()
            self._busy[receiver] -= 1
            self._busy += Counter()  # keeps those that are busy

    async def _deliver(self, client: httpx.AsyncClient, webhook: DueWebhook) -> None:
        tenant, task_id, receiver = webhook
        try:
            task = await self._store.get(tenant, task_id)
        except TaskNotFound:
            await self._store.settle_webhook(tenant, task_id, error="task is gone")
            return
        await self._settle(task, await self._send(client, task, receiver))

    async def _settle(self, task: Task, error: str | None) -> None:
        again = None
        if (
            error is not None
            and task.webhook_attempts + 1 < self._settings.max_attempts
        ):
            again = min(
                FIRST_BACKOFF_SECONDS * 2.0**task.webhook_attempts,
                LONGEST_BACKOFF_SECONDS,
            )
        if error is not None:
            facts = {"task_id": task.id, "error": error, "again_after": again}
            logger.warning("webhook not delivered", extra=facts)
        await self._store.settle_webhook(
            task.tenant, task.id, error=error, again_after_seconds=again
        )

    async def _send(
        self, client: httpx.AsyncClient, task: Task, receiver: str
    ) -> str | None:
        """Send once; return why it was not taken, if so."""
        secret = self._settings.secret
        if task.webhook is None or not is_allowed(task.webhook, self._settings.allowed):
            return "its URL is not below webhooks.allowed of this worker"
        if secret is None:
            return "webhooks.secret is not set on this worker"
        body = await asyncio.to_thread(webhook_body, task)
        headers = webhook_headers(
            task, body, secret=secret.get_secret_value(), sent_at=datetime.now(UTC)
        )
        try:
            async with asyncio.timeout(self._settings.timeout):
                async with client.stream(
                    "POST", task.webhook, content=body, headers=headers
                ) as answer:
                    status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as exc:
            if len(self._silent) == MOST_SILENT:
                del self._silent[next(iter(self._silent))]
            self._silent[receiver] = None
            return f"{type(exc).__name__}"
        self._silent.pop(receiver, None)
        return None if 200 <= status < 300 else f"HTTP {status}"
