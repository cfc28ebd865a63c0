"""The part of a task store's contract that keeps webhooks until they are delivered."""

from __future__ import annotations

from typing import Protocol


class WebhookStore(Protocol):
    """Hands out the webhooks of ended tasks, each to one deliverer at a time."""

    async def take_webhooks(
        self, *, limit: int, lease_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        """Take due webhooks of ended tasks: (tenant, task id) pairs.

        Each is due again after `lease_seconds` unless it is settled before.
        """
        ...

    async def settle_webhook(
        self,
        tenant: str,
        task_id: str,
        *,
        error: str | None,
        again_after_seconds: float | None = None,
    ) -> None:
        """Note how a delivery went; without a delay there is no other attempt.

        A delay without an error puts one off that was not tried.
        """
        ...
