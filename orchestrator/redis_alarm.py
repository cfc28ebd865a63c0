"""Notices a Redis that was fit at the start and is so no longer.

Its settings and its role may change while it runs: it begins to evict keys, becomes a
replica, gives up its append-only file. Sweeps look, since they run everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from redis.exceptions import ResponseError

from orchestrator import redis_keys
from orchestrator.redis_check import evicts, unfit_reasons
from orchestrator.redis_connection import UntypedRedis, address_of, store_errors

LOOK_SECONDS: Final = 5.0
"""Between two looks of a process: each costs the server a tenth of a millisecond."""
UNFIT_SECONDS: Final = 30
"""How long submits are refused after the last look; each one prolongs it."""


class RedisAlarm:
    """Looks at the server now and then, for one process."""

    def __init__(self, client: UntypedRedis) -> None:
        self._client = client
        self._address = address_of(client)
        self._looked_at = float("-inf")
        self._had_file = False
        self._alarms: tuple[str, ...] = ()

    async def look(self) -> tuple[str, ...]:
        """Return what is wrong, as of a moment ago.

        A server that evicts keys still takes writes, so that new tasks are refused by
        a key that their script reads; a replica refuses them by itself.

        Raises:
            StoreUnavailable: the server did not answer.
        """
        if monotonic() - self._looked_at < LOOK_SECONDS:
            return self._alarms
        with store_errors(self._address):
            facts = await self._facts()
            # A replica keeps what its primary holds.
            if facts.get("role", "master") == "master":
                await self._tell_submitters(facts)
        self._looked_at = monotonic()
        self._alarms = tuple(self._wrong(facts))
        return self._alarms

    async def _facts(self) -> Mapping[str, Any]:
        with suppress(ResponseError):
            return dict(await self._client.info())
        # A managed server may not answer INFO; the start has said so.
        return {}

    async def _tell_submitters(self, facts: Mapping[str, Any]) -> None:
        if evicts(facts):
            why = next(iter(unfit_reasons(facts, self._address)))
            await self._client.set(redis_keys.UNFIT, why, ex=UNFIT_SECONDS)
        elif facts:
            await self._client.delete(redis_keys.UNFIT)

    def _wrong(self, facts: Mapping[str, Any]) -> Iterator[str]:
        yield from unfit_reasons(facts, self._address)
        if str(facts.get("loading", "0")) == "1":
            return  # Redis writes its file again once it has read it
        has_file = str(facts.get("aof_enabled", "0")) == "1"
        self._had_file = self._had_file or has_file
        if facts and self._had_file and not has_file:
            yield (
                f"Redis at {self._address} no longer keeps its append-only file, so a"
                " restart loses tasks; set appendonly yes"
            )
