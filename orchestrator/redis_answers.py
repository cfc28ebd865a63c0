"""How the flat answers of scripts read."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.store import Doorbell


def pairs(flat: Sequence[str] | dict[str, str]) -> dict[str, str]:
    """A hash from its names and values in turn; fakeredis may give the hash itself."""
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_doorbells(bells: Sequence[Sequence[str]]) -> tuple[Doorbell, ...]:
    """Doorbells from tenant, task id, agent, queue, priority, trace; not those rung."""
    return tuple(
        Doorbell(tenant, task_id, agent_name, queue, int(priority), trace or None)
        for tenant, task_id, agent_name, queue, priority, trace, *rung in bells
        if not rung
    )
