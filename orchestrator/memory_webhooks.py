"""The part of the in-memory task store that keeps webhooks until they are delivered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final

from orchestrator.memory_entry import TaskKey
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.webhook import receiver_of
from orchestrator.webhook_store import DueWebhook, TakenWebhooks

_PUT_OFF_SECONDS: Final = 0.05
_EACH_SECONDS: Final = 0.005


class MemoryWebhooks:
    """Keeps webhooks of ended tasks by when they are due."""

    _ledger: MemoryLedger
    _lock: AbstractContextManager[object]

    async def take_webhooks(
        self,
        *,
        limit: int,
        lease_seconds: float,
        most_each: int,
        places: Mapping[str, int],
    ) -> TakenWebhooks:
        with self._lock:
            now, webhooks = self._ledger.now, self._ledger.webhooks
            left, found, behind = dict(places), list[DueWebhook](), _PUT_OFF_SECONDS
            for key in [key for key, at in webhooks.items() if at <= now]:
                if len(found) == limit:
                    return TakenWebhooks(tuple(found), more=True)
                receiver = self._receiver(key)
                left[receiver] = left.get(receiver, most_each) - 1
                wait = lease_seconds
                if left[receiver] >= 0:
                    found.append(DueWebhook(*key, receiver))
                else:
                    wait = behind = behind + _EACH_SECONDS
                webhooks[key] = now + timedelta(seconds=wait)
            return TakenWebhooks(tuple(found), more=False)

    def _receiver(self, key: TaskKey) -> str:
        entry = self._ledger.entries.get(key)
        return receiver_of(entry.task.webhook or "") if entry else ""

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
            if entry is None or entry.task.webhook_delivered_at is not None:
                ledger.webhooks.pop(key, None)
                return
            if again_after_seconds is None:
                ledger.webhooks.pop(key, None)
            else:
                later = timedelta(seconds=again_after_seconds)
                ledger.webhooks[key] = ledger.now + later
            entry.set(
                webhook_attempts=entry.task.webhook_attempts + 1,
                webhook_error=error,
                webhook_delivered_at=None if error else ledger.now,
            )
