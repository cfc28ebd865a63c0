"""The agent directory on Redis, beside the tasks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from conversations.known_fields import read_known
from orchestrator import redis_keys
from orchestrator.agent_config import AgentConfig, AgentHealth, AgentInfo, WorkerInfo
from orchestrator.redis_connection import (
    UntypedRedis,
    address_of,
    read_each,
    store_errors,
)
from orchestrator.redis_scripts import RedisScripts, script_alone
from orchestrator.task_record import UNREADABLE, find_instant, instant, milliseconds

_WORKERS_AT_ONCE: Final = 10
_AGENTS_AT_ONCE: Final = 250
"""Read in one go, so that others have their turn on the caller's loop between two."""


class RedisAgentDirectory:
    """Agents and workers as every process of the fleet sees them."""

    def __init__(self, client: Redis) -> None:
        self._client: UntypedRedis = client
        self._address = address_of(client)
        names = ("announce", "withdraw")
        self._scripts = RedisScripts(
            client,
            sources={name: script_alone(name) for name in names},
            unguarded=("withdraw",),
        )

    async def announce(self, worker: WorkerInfo, *, ttl_seconds: float) -> None:
        keys = [
            redis_keys.worker(worker.id),
            redis_keys.WORKERS,
            redis_keys.AGENTS,
            redis_keys.WORKER_SLOTS,
            redis_keys.SLOTS,
            redis_keys.served(worker.id),
        ]
        text = worker.model_dump_json(exclude={"seen_at"})
        slots = " ".join((str(worker.slots), *worker.all_queues))
        arguments: list[str | int] = [
            worker.id,
            text,
            milliseconds(ttl_seconds),
            slots,
            " ".join(worker.served),
        ]
        for agent in worker.agents:
            arguments += [agent.name, agent.model_dump_json()]
        await self._scripts.run("announce", keys, arguments)

    async def withdraw(self, worker_id: str) -> None:
        keys = [
            redis_keys.worker(worker_id),
            redis_keys.WORKERS,
            redis_keys.WORKER_SLOTS,
            redis_keys.SLOTS,
            redis_keys.served(worker_id),
        ]
        await self._scripts.run("withdraw", keys, [worker_id])

    async def workers(self) -> tuple[WorkerInfo, ...]:
        return await self._announced(sorted(await self.worker_ids()))

    async def _announced(self, ids: Sequence[str]) -> tuple[WorkerInfo, ...]:
        found: list[WorkerInfo] = []
        for start in range(0, len(ids), _WORKERS_AT_ONCE):
            some = ids[start : start + _WORKERS_AT_ONCE]
            with store_errors(self._address):
                keys = [redis_keys.worker(id_) for id_ in some]
                texts = await self._client.mget(keys)
            found += [_worker(text) for text in texts if text is not None]
        return tuple(found)

    async def worker_ids(self) -> tuple[str, ...]:
        with store_errors(self._address):
            return tuple(await self._client.zrange(redis_keys.WORKERS, 0, -1))

    async def agents(self) -> tuple[AgentInfo, ...]:
        with store_errors(self._address):
            configs = await self._client.hgetall(redis_keys.AGENTS)
        return await self._infos(configs)

    async def find(self, name: str) -> AgentInfo | None:
        return (await self.find_all([name])).get(name)

    async def find_all(self, names: Iterable[str]) -> dict[str, AgentInfo]:
        asked = list(names)
        if not asked:
            return {}
        with store_errors(self._address):
            found = await self._client.hmget(redis_keys.AGENTS, asked)
        configs = dict(zip(asked, found, strict=True))
        infos = await self._infos(
            {name: text for name, text in configs.items() if text}
        )
        return {info.name: info for info in infos}

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _infos(self, configs: Mapping[str, str]) -> tuple[AgentInfo, ...]:
        if not configs:
            return ()
        names, workers = sorted(configs), await self._served()
        found: list[AgentInfo] = []
        for start in range(0, len(names), _AGENTS_AT_ONCE):
            some = names[start : start + _AGENTS_AT_ONCE]
            with store_errors(self._address):
                reads = [("HGETALL", redis_keys.health(name)) for name in some]
                answers = await read_each(self._client, reads)
            found += [
                AgentInfo(
                    config=read_known(AgentConfig, json.loads(configs[name])),
                    health=_health(answer, workers=workers[name]),
                )
                for name, answer in zip(some, answers, strict=True)
            ]
        return tuple(found)

    async def _served(self) -> Counter[str]:
        """How many live workers serve each agent; mostly reads no announcement for it.

        They hold every agent's configuration: of a large fleet a submit would read
        megabytes to know whether one agent is served. Workers of an older release tell
        what they serve there alone.
        """
        ids = await self.worker_ids()
        if not ids:
            return Counter()
        with store_errors(self._address):
            texts = await self._client.mget([redis_keys.served(id_) for id_ in ids])
        served = Counter(name for text in texts if text for name in text.split(" "))
        untold = [id_ for id_, text in zip(ids, texts, strict=True) if text is None]
        for worker in await self._announced(untold):
            served.update(worker.served)
        return served


def _worker(text: str) -> WorkerInfo:
    seen, _, announced = text.partition(" ")
    worker = read_known(WorkerInfo, json.loads(announced))
    return worker.model_copy(update={"seen_at": instant(seen)})


def _health(answer: Mapping[str, str] | Exception, *, workers: int) -> AgentHealth:
    """How an agent does; what cannot be read counts nothing."""
    try:
        fields = {} if isinstance(answer, Exception) else answer
        return _counted_health(fields, workers)
    except UNREADABLE:
        return _counted_health({}, workers)


def _counted_health(fields: Mapping[str, str], workers: int) -> AgentHealth:
    return AgentHealth(
        served=workers > 0,
        workers=workers,
        last_success_at=find_instant(fields, "last_success_ms"),
        last_failure_at=find_instant(fields, "last_failure_ms"),
        last_failure_code=fields.get("last_failure_code"),
        successes=int(fields.get("successes", 0)),
        failures=int(fields.get("failures", 0)),
    )
