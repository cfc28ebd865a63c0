"""Delivery of signed webhooks on the end of tasks, from the store.

A webhook stands in the store until a receiver has said 2xx or the attempts are used up,
so no crash loses one; a receiver may get it twice and knows it by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

import httpx

from orchestrator.errors import OrchestratorError, TaskNotFound
from orchestrator.settings import WebhookSettings
from orchestrator.store import TaskStore
from orchestrator.task import Task
from orchestrator.webhook import is_allowed, webhook_body, webhook_headers

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
"""Between two looks; a webhook follows its task's end by about this."""
AT_ONCE: Final = 8
"""Deliveries of one process together."""
FIRST_BACKOFF_SECONDS: Final = 5.0
LONGEST_BACKOFF_SECONDS: Final = 3600.0


class WebhookDeliverer:
    """Sends what is due. Follows no redirect and obeys the allow-list."""

    def __init__(self, store: TaskStore, settings: WebhookSettings) -> None:
        self._store = store
        self._settings = settings
        self._lease_seconds = settings.timeout * 2 + 10

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = httpx.Timeout(self._settings.timeout)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            while True:
                try:
                    found = await self.deliver_due(client)
                except OrchestratorError as exc:
                    logger.warning("webhooks missed", extra={"error": str(exc)})
                    found = 0
                except Exception:
                    # One delivery that nobody foresaw must not end all others.
                    logger.exception("webhooks failed")
                    found = 0
                if found < AT_ONCE:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def deliver_due(self, client: httpx.AsyncClient) -> int:
        """Try what is due once; return how many those were.

        Raises:
            StoreUnavailable: the store did not answer; what was taken is due again.
        """
        due = await self._store.take_webhooks(
            limit=AT_ONCE, lease_seconds=self._lease_seconds
        )
        outcomes = await asyncio.gather(
            *(self._deliver(client, *key) for key in due), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(due)

    async def _deliver(
        self, client: httpx.AsyncClient, tenant: str, task_id: str
    ) -> None:
        try:
            task = await self._store.get(tenant, task_id)
        except TaskNotFound:
            await self._store.settle_webhook(tenant, task_id, error="task is gone")
            return
        error = await self._send(client, task)
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
            facts = {"task_id": task_id, "error": error, "again_after": again}
            logger.warning("webhook not delivered", extra=facts)
        await self._store.settle_webhook(
            tenant, task_id, error=error, again_after_seconds=again
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
