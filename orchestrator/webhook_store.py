"""The part of a task store's contract that keeps webhooks until they are delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class DueWebhook(NamedTuple):
    """A webhook that its taker is to deliver."""

    tenant: str
    task_id: str
    receiver: str
    """Names the server; a key of `places`."""


class TakenWebhooks(NamedTuple):
    """What there was to deliver."""

    due: tuple[DueWebhook, ...]
    more: bool
    """Whether others may be due that were not looked at."""


class WebhookStore(Protocol):
    """Hands out the webhooks of ended tasks, each to one deliverer at a time."""

    async def take_webhooks(
        self,
        *,
        limit: int,
        lease_seconds: float,
        most_each: int,
        places: Mapping[str, int],
    ) -> TakenWebhooks:
        """Take due webhooks of ended tasks.

        Each is due again after `lease_seconds` unless it is settled before. To one
        receiver go `most_each` at once, or as many as `places` says; what is left
        behind for that is put off, the more of it the longer.
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
        """Note how a delivery went; without a delay there is no other attempt."""
        ...
