"""What a Redis server must be before tasks are trusted to it, and how durable it is."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from orchestrator import redis_keys
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_connection import UntypedRedis
from orchestrator.task_record import instant

_DURABILITY = {"always": "os", "everysec": "process"}


async def check_server(client: UntypedRedis, address: str) -> dict[str, str]:
    """Report version, durability and warnings of a server that may be used.

    Raises:
        StoreUnavailable: it evicts keys, is a replica or part of a cluster.
    """
    await client.ping()
    warnings: list[str] = []
    facts = await _ask(client, "INFO", warnings)
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailable(
            f"Redis at {address} evicts keys (maxmemory-policy {policy});"
            " set maxmemory-policy noeviction"
        )
    if facts.get("role", "master") != "master":
        raise StoreUnavailable(
            f"Redis at {address} is a replica; point the URL at its primary"
        )
    if int(facts.get("cluster_enabled", 0)):
        raise StoreUnavailable(
            f"Redis at {address} is a cluster, whose scripts cannot span keys;"
            " use a single primary, with replicas if needed"
        )
    report = {
        "version": str(facts.get("redis_version", "unknown")),
        "durability": await _durability(client, facts, warnings),
    }
    went_back = await client.hget(redis_keys.HISTORY, "went_back_ms")
    if went_back is not None:
        at = instant(went_back).isoformat(timespec="seconds")
        warnings.append(
            f"history went back before {at}: Redis came up with older data, tasks"
            " accepted in between are gone and ended ones may have run again;"
            f" when you have looked into it: HDEL {redis_keys.HISTORY} went_back_ms"
        )
    return report | ({"warnings": "; ".join(warnings)} if warnings else {})


async def _durability(
    client: UntypedRedis, facts: dict[str, Any], warnings: list[str]
) -> str:
    settings = await _ask(client, "CONFIG GET", warnings)
    enabled = (
        settings.get("appendonly") == "yes" or str(facts.get("aof_enabled")) == "1"
    )
    if not enabled:
        return "none"
    return _DURABILITY.get(settings.get("appendfsync", "everysec"), "none")


async def _ask(
    client: UntypedRedis, command: str, warnings: list[str]
) -> dict[str, Any]:
    try:
        if command == "INFO":
            return dict(await client.info())
        return dict(await client.config_get("append*"))
    except ResponseError:
        warnings.append(
            f"the server does not answer {command}, so its settings are unknown"
        )
        return {}
