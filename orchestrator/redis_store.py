"""The task store on Redis. Every change is one Lua script in `lua/`.

Knows the order of the scripts' arguments and how their answers read; which transition
is allowed, and what it touches, is the scripts' business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import monotonic

from redis.asyncio import Redis

from conversations.append_script import (
    append_arguments,
    append_keys,
)
from conversations.conversation import ConversationConfig
from conversations.json_value import dumps, written
from conversations.record import write_limits
from conversations.redaction import Redact, redacted
from orchestrator import redis_keys
from orchestrator.errors import (
    InvalidTransition,
    LeaseLost,
    TaskNotFound,
)
from orchestrator.events import TaskEvent
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_check import check_server
from orchestrator.redis_connection import store_errors
from orchestrator.redis_creation import RedisCreation
from orchestrator.redis_creation_arguments import CreationTerms
from orchestrator.redis_figures import RedisFigures
from orchestrator.redis_joint import SharedCall
from orchestrator.redis_leases import RedisLeases
from orchestrator.redis_listing import list_tasks
from orchestrator.redis_log import last_entry, read_events, take_cancel_requests
from orchestrator.redis_log_watch import LogWatch
from orchestrator.redis_run_journal import RedisRunJournal
from orchestrator.redis_schedules import RedisSchedules
from orchestrator.redis_sweep import RedisSweep
from orchestrator.redis_task_scripts import (
    MOST_TENANTS,
    Arguments,
    ScriptConstants,
    require_name,
)
from orchestrator.redis_webhooks import RedisWebhooks
from orchestrator.store import (
    Cancellation,
    Doorbell,
    Ending,
    LastStep,
    Lease,
    SweepReport,
    TaskEnd,
    TaskFilter,
    TaskPage,
)
from orchestrator.store_limits import (
    DELTA_TTL_SECONDS,
    DISPATCH_WINDOW,
    IDEMPOTENCY_TTL_SECONDS,
    MAX_CRASHES,
    MOST_COUNTERS,
    PUSHED_CANCEL_SECONDS,
    RESEND_SECONDS,
    RESULT_TTL_SECONDS,
    hidden_config,
)
from orchestrator.task import Task, TaskStatus
from orchestrator.task_record import (
    END_FIELDS,
    end_event_data,
    end_from_fields,
    milliseconds,
    task_from_fields,
)


class RedisTaskStore(
    RedisCreation,
    RedisLeases,
    RedisRunJournal,
    RedisSchedules,
    RedisWebhooks,
    RedisFigures,
):
    """Keeps tasks in one Redis, safe for any number of processes.

    A conversation that begins with a turn without an answer gets
    `conversation_config`; `redact` sees what enters one. With a `doorbell_message` the
    scripts ring, and return no doorbells.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default
        self,
        client: Redis,
        *,
        known_agents: Collection[str] = (),
        conversation_config: ConversationConfig | None = None,
        redact: Redact | None = None,
        result_ttl_seconds: float = RESULT_TTL_SECONDS,
        delta_ttl_seconds: float = DELTA_TTL_SECONDS,
        idempotency_ttl_seconds: float = IDEMPOTENCY_TTL_SECONDS,
        max_crashes: int = MAX_CRASHES,
        resend_seconds: float = RESEND_SECONDS,
        renewal_seconds: float = 0.0,
        dispatch_window: int = DISPATCH_WINDOW,
        doorbell_message: str | None = None,
        most_counters: int = MOST_COUNTERS,
    ) -> None:
        """Take over a client.

        `known_agents` are those of this process; `renewal_seconds` is how long holders
        get to renew leases after Redis was away.
        """
        constants = ScriptConstants(dispatch_window, most_counters, doorbell_message)
        super().__init__(
            client,
            resend_seconds=resend_seconds,
            result_ttl_seconds=result_ttl_seconds,
            constants=constants,
            redact=redact,
        )
        config = conversation_config or ConversationConfig()
        self._creation_terms = CreationTerms(
            idempotency_ttl_seconds=idempotency_ttl_seconds,
            limits="\n".join(write_limits(config)),
            hidden_limits="\n".join(
                write_limits(hidden_config(config, result_ttl_seconds))
            ),
            known_agents=frozenset(known_agents),
            redact=redact,
        )
        self._ends: dict[str, SharedCall] = {}
        self._watch = LogWatch(client)
        self._sweep = RedisSweep(
            client,
            self._scripts,
            call=self._call,
            max_crashes=max_crashes,
            renewal_seconds=renewal_seconds,
            delta_ttl_seconds=delta_ttl_seconds,
        )

    async def get(self, tenant: str, task_id: str) -> Task:
        require_name(tenant, task_id)
        with store_errors(self._address):
            key = redis_keys.record(tenant, task_id)
            fields = pairs(await self._scripts.read("HGETALL", key))
        if not fields:
            raise TaskNotFound(task_id)
        return task_from_fields(fields)

    async def ends(
        self, tenant: str, task_ids: Sequence[str]
    ) -> tuple[TaskEnd | None, ...]:
        with store_errors(self._address):
            ends = await self._read_ends(tenant, task_ids)
            gone = [place for place, end in enumerate(ends) if end is None]
            if not gone:
                return tuple(ends)
            keys = [redis_keys.joined(tenant, task_ids[place]) for place in gone]
            runs = await self._scripts.read("MGET", *keys)
            joined = [
                (place, run) for place, run in zip(gone, runs, strict=True) if run
            ]
            found = await self._read_ends(tenant, [run for _, run in joined])
            for (place, _), end in zip(joined, found, strict=True):
                ends[place] = end
        return tuple(ends)

    async def _read_ends(
        self, tenant: str, task_ids: Sequence[str]
    ) -> list[TaskEnd | None]:
        records = await self._scripts.read_many(
            [
                ("HMGET", redis_keys.record(tenant, task_id), *END_FIELDS)
                for task_id in task_ids
            ]
        )
        return [end_from_fields(record) for record in records]

    async def list(
        self,
        tenant: str,
        task_filter: TaskFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        with store_errors(self._address):
            return await list_tasks(
                self._client, tenant, task_filter, limit=limit, cursor=cursor
            )

    async def events(
        self,
        tenant: str,
        task_id: str,
        *,
        after: int = -1,
        limit: int = 500,
        wait_seconds: float = 0.0,
    ) -> tuple[TaskEvent, ...]:
        require_name(tenant, task_id)
        deadline = monotonic() + wait_seconds
        with store_errors(self._address):
            while True:
                found = await read_events(
                    self._scripts.read_many,
                    (tenant, task_id),
                    after=after,
                    limit=limit,
                )
                if found.events:
                    return found.events
                if found.last > after:  # all of them were of kinds we do not know
                    after = found.last
                    continue
                left = deadline - monotonic()
                if not found.goes_on or left <= 0:
                    return ()
                await self._watch.wait(
                    redis_keys.log(tenant, task_id), last_entry(after), seconds=left
                )

    async def watch(self, tenant: str, task_id: str, *, seconds: float) -> None:
        require_name(tenant, task_id)
        with store_errors(self._address):
            await self._client.set(
                redis_keys.watched(tenant, task_id), "1", px=milliseconds(seconds)
            )

    async def finish(
        self,
        lease: Lease,
        ending: Ending,
        *,
        running_seconds: float,
        last: LastStep | None = None,
    ) -> tuple[Doorbell, ...]:
        if not ending.status.is_terminal:
            raise InvalidTransition(
                lease.task_id, status="running", wanted=f"{ending.status} by finish"
            )
        result, failure = ending.result, ending.failure
        data = end_event_data(ending)
        running_ms = milliseconds(running_seconds)
        step = self._last_step(lease, last)
        is_plain = ending.turn is None and failure is None
        if is_plain and result and ending.status is TaskStatus.COMPLETED:
            about = (
                f"{lease.task_id} {lease.right} {running_ms} {result.partial:d}"
                f" {len(step)}"
            )
            return await self._finish_plain(
                lease, [about, written(result), dumps(data), *step]
            )
        arguments: Arguments = [
            ending.status.value,
            running_ms,
            written(result) if result else "",
            failure.model_dump_json() if failure else "",
            failure.code if failure else "",
            int(result is not None and result.partial),
            dumps(data),
            dumps(data | {"turn": "dropped"}),
            len(step),
            *step,
        ]
        keys, turn_arguments = await self._turn(lease, ending)
        answer = await self._write(
            "finish", lease, [*arguments, *turn_arguments], more_keys=keys
        )
        return read_doorbells(answer[0])

    async def _finish_plain(self, lease: Lease, own: Arguments) -> tuple[Doorbell, ...]:
        """End a task along with those of others that end now."""
        shared = self._ends.get(lease.tenant)
        if shared is None:
            if len(self._ends) == MOST_TENANTS:
                self._ends.clear()
            shared = self._shared_call("finish_plain", lease.tenant)
            self._ends[lease.tenant] = shared
        verdict, *bells = await self._scripts.run_joint(shared, own)
        if verdict == "lost":
            raise LeaseLost(lease.task_id, fence=lease.fence)
        return read_doorbells(bells[0])

    async def _turn(
        self, lease: Lease, ending: Ending
    ) -> tuple[Sequence[str], Sequence[str]]:
        if ending.turn is None:
            return (), ()
        conversation = ending.turn.conversation_id
        if conversation is None:
            record = redis_keys.record(lease.tenant, lease.task_id)
            with store_errors(self._address):
                conversation = await self._client.hget(record, "conversation")
        if conversation is None:
            return (), ()
        turn = ending.turn
        messages = [redacted(message, self._redact) for message in turn.messages]
        arguments = append_arguments(
            messages, turn=lease.task_id, create_with=turn.config
        )
        return append_keys(lease.tenant, conversation), arguments

    async def cancel(self, tenant: str, task_id: str) -> Cancellation:
        require_name(tenant, task_id)
        verdict, *answer = await self._run(
            "cancel", tenant, task_id, [milliseconds(PUSHED_CANCEL_SECONDS)]
        )
        if verdict == "unknown":
            raise TaskNotFound(task_id)
        return Cancellation(
            task_from_fields(pairs(answer[0])), read_doorbells(answer[1])
        )

    async def delete(self, tenant: str, task_id: str) -> None:
        task = await self.get(tenant, task_id)
        if not task.status.is_terminal:
            raise InvalidTransition(task.id, status=task.status, wanted="deleted")
        await self._sweep.forget_now(task)

    async def wait_cancel_requests(
        self, worker: str, *, wait_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        with store_errors(self._address):
            return await take_cancel_requests(
                self._client, worker, wait_seconds=wait_seconds
            )

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        return await self._sweep.run(limit=limit)

    async def check(self) -> dict[str, str]:
        with store_errors(self._address):
            return await check_server(self._client, self._address)

    async def aclose(self) -> None:
        await self._watch.aclose()
        await self._client.aclose()
