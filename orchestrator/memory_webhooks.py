"""The part of the in-memory task store that keeps webhooks until they are delivered."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta

from orchestrator.memory_ledger import MemoryLedger


class MemoryWebhooks:
    """Keeps webhooks of ended tasks by when they are due."""

    _ledger: MemoryLedger
    _lock: AbstractContextManager[object]

    async def take_webhooks(
        self, *, limit: int, lease_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        with self._lock:
            now, webhooks = self._ledger.now, self._ledger.webhooks
            due = [key for key, at in webhooks.items() if at <= now][:limit]
            until = now + timedelta(seconds=lease_seconds)
            webhooks.update(dict.fromkeys(due, until))
            return tuple(due)

    async def settle_webhook(
        self,
        tenant: str,
        task_id: str,
        *,
        error: str | None,
        again_after_seconds: float | None = None,
    ) -> None:
        with self._lock:
            ledger, key = self._ledger, (tenant, task_id)
            entry = ledger.entries.get(key)
            if entry is None or again_after_seconds is None:
                ledger.webhooks.pop(key, None)
            else:
                later = timedelta(seconds=again_after_seconds)
                ledger.webhooks[key] = ledger.now + later
            tried = error is not None or again_after_seconds is None
            if entry is not None and tried:
                entry.set(
                    webhook_attempts=entry.task.webhook_attempts + 1,
                    webhook_error=error,
                    webhook_delivered_at=None if error else ledger.now,
                )
