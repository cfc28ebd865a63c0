"""Opens the delivery of webhooks, where any are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.settings import WebhookSettings
from orchestrator.store import TaskStore

if TYPE_CHECKING:
    from workers.webhooks import WebhookDeliverer


def open_webhooks(
    settings: WebhookSettings, store: TaskStore
) -> WebhookDeliverer | None:
    """Return what delivers webhooks; None where none are allowed."""
    if not settings.allowed:
        return None
    # httpx brings four MiB, which a worker without webhooks does without.
    from workers.webhooks import WebhookDeliverer  # noqa: PLC0415

    return WebhookDeliverer(store, settings)
