"""The names of every Redis key that the orchestrator's stores use.

Identifiers cannot start with `_`, so the fleet-wide keys never meet a tenant's. The
table with types, lifetimes and growth is docs/redis-keys.md.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from conversations.json_value import NotStorable, check_identifier

_ROOT = "celeriac"
_FLEET = f"{_ROOT}:_fleet"

ROOT = f"{_ROOT}:"
DUE = f"{_FLEET}:due"
LEASES = f"{_FLEET}:leases"
ENDED = f"{_FLEET}:ended"
DELTAS = f"{_FLEET}:deltas"
FOLLOWED = f"{_FLEET}:followed"
HISTORY = f"{_FLEET}:history"
WEBHOOKS = f"{_FLEET}:webhooks"
SCHEDULES = f"{_FLEET}:schedules"
SWEPT = f"{_FLEET}:swept"
UNFIT = f"{_FLEET}:unfit"
AGENTS = f"{_FLEET}:agents"
WORKERS = f"{_FLEET}:workers"
TENANTS = f"{_FLEET}:tenants"
QUEUES = f"{_FLEET}:queues"
LIBRARIES = f"{_FLEET}:libraries"
_GATE = f"{_FLEET}:gate:"
WITHDRAWN = f"{_FLEET}:withdrawn:"
"""Begins the key of a call that was taken back; its token follows."""
GATE_TURNS = f"{_FLEET}:gate-turns"
"""A channel: whose turn it is before a gate; lost words cost a moment, nothing else."""
WORKER_SLOTS = f"{_FLEET}:worker_slots"
SLOTS = f"{_FLEET}:slots"
HEALTH = f"{_FLEET}:health:"
CONTROL = f"{_FLEET}:control:"


def may_name_a_task(tenant: str, task_id: str) -> bool:
    """Tell whether two names can stand in a key, so that no other key is met."""
    try:
        check_identifier(tenant)
        check_identifier(task_id)
    except NotStorable:
        return False
    return True


def record(tenant: str, task_id: str) -> str:
    return f"{_ROOT}:{tenant}:task:{task_id}"


def joined(tenant: str, task_id: str) -> str:
    return f"{record(tenant, task_id)}:joined"


def log(tenant: str, task_id: str) -> str:
    return f"{record(tenant, task_id)}:events"


def turns(tenant: str, conversation_id: str) -> str:
    return f"{_ROOT}:{tenant}:turns:{conversation_id}"


def watched(tenant: str, task_id: str) -> str:
    return f"{record(tenant, task_id)}:watched"


def journal(tenant: str, task_id: str) -> str:
    return f"{record(tenant, task_id)}:journal"


def idempotency(tenant: str, key: str) -> str:
    return f"{_ROOT}:{tenant}:idempotency:{_digest(key)}"


def cache(tenant: str, request_hash: str) -> str:
    return f"{_ROOT}:{tenant}:cache:{request_hash}"


def budget(tenant: str, kind: str, name: str) -> str:
    """An account; that of a day has the day added by the script.

    A task's stands beside its record, and lives as long (lua/budget_reserve.lua).
    """
    if kind == "task":
        return f"{record(tenant, name)}:budget"
    return f"{_ROOT}:{tenant}:budget:{kind}:{name}"


def listing(tenant: str, kind: str = "all", value: str = "") -> str:
    """A listing of tasks: `all`, or by `status`, `agent`, `conversation` or `tag`."""
    suffix = _digest(value) if kind == "tag" else value
    return f"{_ROOT}:{tenant}:tasks:{kind}:{suffix}".removesuffix(":")


def schedules(tenant: str) -> str:
    return f"{_ROOT}:{tenant}:schedules"


def metrics(tenant: str) -> str:
    return f"{_ROOT}:{tenant}:metrics"


def rung(queue: str) -> str:
    return f"{_FLEET}:rung:{queue}"


def ready(queue: str) -> str:
    return f"{_FLEET}:ready:{queue}"


def suspects(queue: str) -> str:
    return f"{_FLEET}:suspects:{queue}"


def worker(worker_id: str) -> str:
    return f"{_FLEET}:worker:{worker_id}"


def served(worker_id: str) -> str:
    return f"{_FLEET}:served:{worker_id}"


def health(agent_name: str) -> str:
    return f"{HEALTH}{agent_name}"


def control(worker_id: str) -> str:
    return f"{CONTROL}{worker_id}"


def task_keys(tenant: str, task_id: str) -> list[str]:
    """The keys of a task alone that every task has."""
    return [record(tenant, task_id), log(tenant, task_id), journal(tenant, task_id)]


@lru_cache
def gate(name: str) -> str:
    """A gate's state; lua/gate.lua makes the keys of its other parts of it."""
    return f"{_GATE}{_digest(name)[:32]}"


def member(tenant: str, task_id: str) -> str:
    """How a task stands in the fleet-wide sets."""
    return f"{tenant} {task_id}"


def split_member(value: str) -> tuple[str, str]:
    """The tenant and task id of a fleet-wide set's member."""
    tenant, _, task_id = value.partition(" ")
    return tenant, task_id


def _digest(value: str) -> str:
    return sha256(value.encode()).hexdigest()
