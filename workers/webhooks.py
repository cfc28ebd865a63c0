"""Delivery of signed webhooks on the end of tasks, from the store.

A webhook stands in the store until a receiver has said 2xx or the attempts are used up,
so no crash loses one; a receiver may get it twice and knows it by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import httpx

from orchestrator.errors import OrchestratorError, TaskNotFound
from orchestrator.settings import WebhookSettings
from orchestrator.store import TaskStore
from orchestrator.task import Task
from orchestrator.webhook import is_allowed, receiver_of, webhook_body, webhook_headers

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
"""Between two looks; a webhook follows its task's end by about this."""
AT_ONCE: Final = 64
"""Deliveries of one process together."""
AT_ONCE_TO_ONE: Final = 8
"""Of these to one receiver: one that hangs must not keep the others waiting."""
POSTPONED_SECONDS: Final = 2.0
"""When a delivery that finds its receiver busy is due again, about."""
FIRST_BACKOFF_SECONDS: Final = 5.0
LONGEST_BACKOFF_SECONDS: Final = 3600.0


class WebhookDeliverer:
    """Sends what is due. Follows no redirect and obeys the allow-list."""

    def __init__(self, store: TaskStore, settings: WebhookSettings) -> None:
        self._store = store
        self._settings = settings
        self._lease_seconds = settings.timeout * 2 + 10
        self._sending: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()
        """Deliveries under way to each receiver."""
        self._postponed = False

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
        room = AT_ONCE - len(self._sending)
        due = await self._take(room) if room else ()
        for tenant, task_id in due:
            sending = asyncio.create_task(self._see_to(client, tenant, task_id))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        if due and len(due) == room:  # there may be more, once there is room
            await asyncio.wait(
                self._sending,
                timeout=PAUSE_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            await asyncio.sleep(PAUSE_SECONDS)
        if self._postponed:
            self._postponed = False
            await asyncio.sleep(PAUSE_SECONDS / 2)

    async def _take(self, limit: int) -> tuple[tuple[str, str], ...]:
        try:
            return await self._store.take_webhooks(
                limit=limit, lease_seconds=self._lease_seconds
            )
        except OrchestratorError as exc:
            logger.warning("webhooks missed", extra={"error": str(exc)})
        except Exception:
            logger.exception("webhooks failed")
        return ()

    async def _see_to(
        self, client: httpx.AsyncClient, tenant: str, task_id: str
    ) -> None:
        """Try one delivery; whatever goes wrong, it is due again after its lease."""
        try:
            await self._deliver(client, tenant, task_id)
        except OrchestratorError as exc:
            facts = {"task_id": task_id, "error": str(exc)}
            logger.warning("webhook missed", extra=facts)
        except Exception:
            logger.exception("webhook failed", extra={"task_id": task_id})

    async def _deliver(
        self, client: httpx.AsyncClient, tenant: str, task_id: str
    ) -> None:
        try:
            task = await self._store.get(tenant, task_id)
        except TaskNotFound:
            await self._store.settle_webhook(tenant, task_id, error="task is gone")
            return
        receiver = receiver_of(task.webhook or "")
        if self._busy[receiver] >= AT_ONCE_TO_ONE:
            self._postponed = True
            later = POSTPONED_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311
            await self._store.settle_webhook(
                tenant, task_id, error=None, again_after_seconds=later
            )
            return
        self._busy[receiver] += 1
        try:
            error = await self._send(client, task)
        finally:
            self._busy[receiver] -= 1
            self._busy += Counter()  # keeps those that are busy
        await self._settle(task, error)

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

    async def _send(self, client: httpx.AsyncClient, task: Task) -> str | None:
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
            return f"{type(exc).__name__}"
        return None if 200 <= status < 300 else f"HTTP {status}"
