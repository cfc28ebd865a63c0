"""Calls of `once` tools: marked before they begin, settled when a crash hid their end.

A mark that an earlier attempt left is settled by the decision of a person, else by the
tool's `verify`, else the run is parked until somebody decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pydantic import JsonValue

from conversations.message import ToolCall
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import (
    Action,
    Decision,
    Journal,
    StepKind,
    StepStart,
    call_key,
)
from orchestrator.task import AwaitedCall
from workers.errors import AgentFailed
from workers.run import Run
from workers.run_log import RunLog
from workers.tools.registry import result_of
from workers.tools.tool import Tool, ToolContext, ToolResult


class OnceCall(NamedTuple):
    """A call that must not be made twice."""

    call: ToolCall
    tool: Tool
    context: ToolContext
    call_id: str
    """Names it within the task."""


class UnsettledCalls:
    """What earlier attempts of one run left open, and how it is settled."""

    def __init__(self, run: Run, log: RunLog, journal: Journal) -> None:
        self._run = run
        self._log = log
        self._starts = {start.key: start for start in journal.starts}
        self._decisions = {each.key: each for each in journal.decisions}
        self._under_way = 0
        self._all_ended: asyncio.Event | None = None
        """Made when somebody waits: few runs have such a call, and each would keep it.
        """

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Enclose a call from its mark to its record."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way and self._all_ended is not None:
                self._all_ended.set()
                self._all_ended = None

    async def all_ended(self) -> None:
        """Wait for the calls under way: cut off, their outcome would be unknown."""
        if self._under_way:
            self._all_ended = self._all_ended or asyncio.Event()
            await self._all_ended.wait()

    async def settled(self, once: OnceCall) -> ToolResult | None:
        """Return what a call gave that is not made again; None when it is to be made.

        Raises:
            AgentFailed: a person decided to end the task.
        """
        key = call_key(once.call_id)
        decision, start = self._decisions.get(key), self._starts.get(key)
        if decision is not None:
            return _decided(once, decision)
        return await self._verified(once, start) if start is not None else None

    async def mark(self, once: OnceCall) -> None:
        """Mark a call as begun, within the step that makes it.

        In a step of its own, a drain between the two would hide that it was not made.
        """
        await self._log.start(_start_of(once))

    async def _verified(self, once: OnceCall, start: StepStart) -> ToolResult | None:
        async with self._run.step(once.call.name):
            await self._log.emit([_unknown(once, start)])
            outcome = await once.tool.verify(once.call.arguments, once.context)
        if outcome.done is None:
            await self._run.park(
                AwaitedCall(
                    call_id=once.call_id,
                    tool=once.call.name,
                    arguments=once.call.arguments,
                    begun_at=start.started_at,
                )
            )
        return result_of(once.call.id, outcome.output) if outcome.done else None


def _decided(once: OnceCall, decision: Decision) -> ToolResult | None:
    if decision.action is Action.FAIL:
        note = f" ({decision.note})" if decision.note else ""
        raise AgentFailed(
            f"the outcome of {once.call.name} ({once.call_id}) was unknown and the"
            f" decision was to end the task{note}",
            code="unknown_outcome",
        )
    if decision.action is Action.DONE:
        return result_of(once.call.id, decision.output)
    return None


def _start_of(once: OnceCall) -> StepStart:
    facts: dict[str, JsonValue] = {
        "tool": once.call.name,
        "arguments": once.call.arguments,
    }
    return StepStart(key=call_key(once.call_id), kind=StepKind.TOOL_CALL, facts=facts)


def _unknown(once: OnceCall, start: StepStart) -> NewEvent:
    facts: dict[str, JsonValue] = {
        "call_id": once.call_id,
        "name": once.call.name,
        "attempt": start.attempt,
    }
    return NewEvent(type=EventType.CALL_UNKNOWN, data=facts)
