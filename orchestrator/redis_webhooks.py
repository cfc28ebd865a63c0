"""The part of the Redis task store that keeps webhooks until they are delivered."""

from __future__ import annotations

from orchestrator import redis_keys
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.task_record import milliseconds


class RedisWebhooks(RedisTaskScripts):
    """Keeps webhooks of ended tasks by when they are due."""

    async def take_webhooks(
        self, *, limit: int, lease_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        found = await self._scripts.run(
            "take_webhooks", [redis_keys.WEBHOOKS], [limit, milliseconds(lease_seconds)]
        )
        return tuple(redis_keys.split_member(member) for member in found)

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
