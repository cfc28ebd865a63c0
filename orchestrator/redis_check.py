"""What a Redis server must be before tasks are trusted to it, and how durable it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from redis.asyncio.connection import SSLConnection
from redis.exceptions import ResponseError

from orchestrator import redis_keys
from orchestrator.errors import StoreUnfit
from orchestrator.loopback import is_loopback
from orchestrator.redis_connection import IS_CLUSTER, UntypedRedis
from orchestrator.task_record import instant

_DURABILITY = {"always": "os", "everysec": "process"}


async def check_server(client: UntypedRedis, address: str) -> dict[str, str]:
    """Report version, durability and warnings of a server that may be used.

    Raises:
        StoreUnfit: it evicts keys, is a replica or part of a cluster.
        StoreUnavailable: it does not answer.
    """
    await client.ping()
    await client.eval("return 1", 0)  # a user may lack the right: tasks need scripts
    warnings: list[str] = []
    if in_the_clear(client):
        warnings.append(
            f"Redis at {address} is another machine's and is reached in the clear;"
            " use rediss://, or a network that nobody else reads"
        )
    facts = await _ask(client, "INFO", warnings)
    for reason in unfit_reasons(facts, address):
        raise StoreUnfit(reason)
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


def unfit_reasons(facts: Mapping[str, Any], address: str) -> Iterator[str]:
    """Tell by a server's INFO why it must not be trusted with tasks."""
    if evicts(facts):
        yield (
            f"Redis at {address} evicts keys (maxmemory-policy"
            f" {facts['maxmemory_policy']}); set maxmemory-policy noeviction"
        )
    if facts.get("role", "master") != "master":
        yield f"Redis at {address} is a replica; point the URL at its primary"
    if int(facts.get("cluster_enabled", 0)):
        yield f"Redis at {address} {IS_CLUSTER}"


def in_the_clear(client: UntypedRedis) -> bool:
    """Whether a network that others may read carries what is said to the server."""
    pool = client.connection_pool
    host = pool.connection_kwargs.get("host")
    encrypted = issubclass(pool.connection_class, SSLConnection)
    return host is not None and not encrypted and not is_loopback(host)


def evicts(facts: Mapping[str, Any]) -> bool:
    """Whether the server drops keys when its memory is full."""
    return bool(facts.get("maxmemory_policy", "noeviction") != "noeviction")


async def _durability(
    client: UntypedRedis, facts: dict[str, Any], warnings: list[str]
) -> str:
    settings = await _ask(client, "CONFIG GET", warnings)
    enabled = (
        settings.get("appendonly") == "yes" or str(facts.get("aof_enabled")) == "1"
    )
    if not enabled:
        return "none" if settings or "aof_enabled" in facts else "unknown"
    return _DURABILITY.get(settings.get("appendfsync", "everysec"), "none")


async def _ask(
    client: UntypedRedis, command: str, warnings: list[str]
) -> dict[str, Any]:
    try:
        if command == "INFO":
            return dict(await client.info())
        return dict(await client.config_get("append*"))
    except ResponseError:
        right = "+info" if command == "INFO" else "+config|get"
        warnings.append(
            f"the server does not answer {command}, so its settings are unknown;"
            f" give our user {right}, or ask whoever runs the server for"
            " appendonly yes and maxmemory-policy noeviction"
        )
        return {}
