"""The part of the Redis task store that keeps webhooks until they are delivered."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator import redis_keys
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.task_record import milliseconds
from orchestrator.webhook_store import DueWebhook, TakenWebhooks


class RedisWebhooks(RedisTaskScripts):
    """Keeps webhooks of ended tasks by when they are due."""

    async def take_webhooks(
        self,
        *,
        limit: int,
        lease_seconds: float,
        most_each: int,
        places: Mapping[str, int],
    ) -> TakenWebhooks:
        fewer = [part for place in places.items() for part in place]
        found, more = await self._scripts.run(
            "take_webhooks",
            [redis_keys.WEBHOOKS, redis_keys.ROOT],
            [limit, milliseconds(lease_seconds), most_each, *fewer],
        )
        due = tuple(
            DueWebhook(*redis_keys.split_member(member), receiver)
            for member, receiver in zip(found[::2], found[1::2], strict=True)
        )
        return TakenWebhooks(due, bool(more))

    async def settle_webhook(
        self,
        tenant: str,
        task_id: str,
        *,
        error: str | None,
        again_after_seconds: float | None = None,
    ) -> None:
        delay = again_after_seconds
        await self._scripts.run(
            "settle_webhook",
            [redis_keys.record(tenant, task_id), redis_keys.WEBHOOKS],
            [
                redis_keys.member(tenant, task_id),
                error or "",
                "" if delay is None else milliseconds(delay),
            ],
        )
