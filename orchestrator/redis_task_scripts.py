"""Calls of the task scripts: their shared keys and arguments, and their composition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Final, NamedTuple

from redis.asyncio import Redis

from conversations.append_script import APPEND_FUNCTIONS, WINDOW_FUNCTIONS
from conversations.redaction import Redact
from orchestrator import redis_keys
from orchestrator.errors import LeaseLost, TaskNotFound
from orchestrator.lua_library import Library, Script, library
from orchestrator.lua_pruning import pruned
from orchestrator.metrics import BUCKETS_MS
from orchestrator.redis_connection import UntypedRedis, address_of
from orchestrator.redis_dues import admitting_functions, paying_functions
from orchestrator.redis_joint import SharedCall
from orchestrator.redis_scripts import (
    Answer,
    RedisScripts,
    ScriptCall,
    Texts,
    read_script,
    script_alone,
)
from orchestrator.store import Lease
from orchestrator.store_limits import LONGEST_RESEND
from orchestrator.task import TRANSITIONS
from orchestrator.task_record import milliseconds

_TASK_SCRIPTS: Final = (
    "create",
    "claim",
    "record_step",
    "start_step",
    "admit_step",
    "drop_start",
    "take_messages",
    "append_events",
    "release",
    "park",
    "resolve",
    "cancel",
    "recover",
    "ring",
    "wake",
    "leave_to_sweep",
    "refill",
    "history",
    "finish",
    "finish_plain",
)

UNGUARDED: Final = (
    "overdue",
    "forget",
    "forget_workers",
    "drop_deltas",
    "due_schedules",
)
"""Scripts that only read or free memory."""
_SHARED: Final = (
    "gathering",
    "counters",
    "basics",
    "task",
    "steps",
    "dispatch",
    "messages",
    "settling",
    "suspects",
    "ending",
    "decisions",
    "births",
)
_SCRIPTS_ALONE: Final = (
    "renew",
    "surrender",
    "bury",
    *UNGUARDED,
    "put_schedule",
    "drop_schedule",
    "advance_schedule",
    "take_webhooks",
    "settle_webhook",
)

_DOORBELL_FACTS: Final = ("TENANT", "TASK", "AGENT", "QUEUE", "URGENCY", "TAG", "TRACE")
"""In the order in which dispatch.lua gives them."""

NOBODY: Final = "_"
"""In the place of a task: the script is of the whole fleet, or of many tasks."""
MOST_TENANTS: Final = 1000
"""What calls for each have in common is remembered; beyond, it is made anew."""

Arguments = Sequence[str | int]


class ScriptConstants(NamedTuple):
    """What the text of the task scripts is composed with."""

    dispatch_window: int
    most_counters: int
    doorbell_message: str | None
    """None: the caller rings."""


def composed_sources(constants: ScriptConstants) -> Mapping[str, str]:
    """Return the text of every task script by name."""

    def compose(name: str) -> str:
        if name in _SCRIPTS_ALONE:
            return script_alone(name)
        script = _script(name)
        text = script.functions + script.own
        return pruned(_shared_text(constants), text) + text

    return Texts((*_TASK_SCRIPTS, *_SCRIPTS_ALONE), compose)


def composed_library(constants: ScriptConstants) -> Library:
    """Return the task scripts that share functions as one library."""
    scripts = {name: _script(name) for name in _TASK_SCRIPTS}
    return library(_shared_text(constants), scripts)


def _script(name: str) -> Script:
    functions = {"admit_step": admitting_functions, "record_step": paying_functions}
    return Script(read_script(name), functions.get(name, str)())


def _shared_text(constants: ScriptConstants) -> str:
    parts = [read_script(name) for name in _SHARED]
    values = (
        f"local ROOT, ENDED = '{redis_keys.ROOT}', '{redis_keys.ENDED}'\n"
        f"local DUE, LEASES = '{redis_keys.DUE}', '{redis_keys.LEASES}'\n"
        f"local HEALTH, CONTROL = '{redis_keys.HEALTH}', '{redis_keys.CONTROL}'\n"
        f"local DISPATCH_WINDOW = {constants.dispatch_window}\n"
        f"local MOST_FIELDS = {constants.most_counters}\n"
        f"local BUCKETS = {{{', '.join(map(str, BUCKETS_MS))}}}\n"
        f"{_doorbell_function(constants.doorbell_message)}\n"
    )
    conversation = APPEND_FUNCTIONS + WINDOW_FUNCTIONS
    return "".join([transition_table(), conversation, values, *parts])


def _doorbell_function(message: str | None) -> str:
    """Return, as Lua, whether scripts ring and what makes a message of its facts."""
    pieces = re.split(r"\$([A-Z]+)", message or "")
    text = [
        piece if is_fact else f"[==[{piece}]==]"
        for is_fact, piece in zip(cycle((False, True)), pieces, strict=False)
    ]
    return "\n".join(
        (
            f"local RINGS = {'false' if message is None else 'true'}",
            f"local function doorbell_message({', '.join(_DOORBELL_FACTS)})",
            f"  return {' .. '.join(text)}",
            "end",
        )
    )


def transition_table() -> str:
    """Return the table of allowed transitions as Lua."""
    rows = (
        f"  {status} = {{{', '.join(f'{to} = true' for to in sorted(allowed))}}},"
        for status, allowed in TRANSITIONS.items()
    )
    return "\n".join(["local TRANSITIONS = {", *rows, "}", ""])


class RedisTaskScripts:
    """What the halves of the Redis task store share."""

    def __init__(
        self,
        client: Redis,
        *,
        resend_seconds: float,
        result_ttl_seconds: float,
        constants: ScriptConstants,
        redact: Redact | None,
    ) -> None:
        self._client: UntypedRedis = client
        self._address = address_of(client)
        self._scripts = RedisScripts(
            client,
            sources=composed_sources(constants),
            library=partial(composed_library, constants),
            unguarded=UNGUARDED,
        )
        self._redact = redact
        self._delays = (
            milliseconds(resend_seconds),
            milliseconds(resend_seconds * LONGEST_RESEND),
            milliseconds(result_ttl_seconds),
        )

    def _call(
        self,
        name: str,
        tenant: str,
        task_id: str,
        arguments: Arguments = (),
        *,
        more_keys: Sequence[str] = (),
    ) -> ScriptCall:
        return ScriptCall(
            name,
            [redis_keys.record(tenant, task_id), *more_keys],
            [tenant, task_id, *self._delays, *arguments],
        )

    def _shared_call(
        self, name: str, tenant: str, arguments: Arguments = ()
    ) -> SharedCall:
        """What calls of a script that serves many tasks of a tenant have in common."""
        keys, of_all = (redis_keys.LEASES,), (tenant, NOBODY, *self._delays)
        return SharedCall(name, keys, (*of_all, *arguments))

    async def _run(
        self, name: str, tenant: str, task_id: str, arguments: Arguments
    ) -> Answer:
        call = self._call(name, tenant, task_id, arguments)
        answer: Answer = await self._scripts.run(*call)
        return answer

    async def _write(
        self,
        name: str,
        lease: Lease,
        arguments: Arguments,
        *,
        more_keys: Sequence[str] = (),
    ) -> Answer:
        """Call a script that names the lease.

        Raises:
            LeaseLost: it is another's by now.
        """
        tenant, task_id = lease.tenant, lease.task_id
        keys = (redis_keys.record(tenant, task_id), *more_keys)
        of_all = (tenant, task_id, *self._delays, lease.right)
        answer: Answer = await self._scripts.run(name, keys, (*of_all, *arguments))
        if answer[0] == "lost":
            raise LeaseLost(task_id, fence=lease.fence)
        return answer[1:]


def require_name(tenant: str, task_id: str) -> None:
    """Refuse what no key may be made of, as unknown."""
    if not redis_keys.may_name_a_task(tenant, task_id):
        raise TaskNotFound(task_id)
