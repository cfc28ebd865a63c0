"""The tool calls of a run, each of which is made once and recorded when it ends.

One that the journal holds is answered from it; one that a person must allow, or whose
outcome a crash has hidden, is settled before it is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from time import monotonic

from pydantic import JsonValue

from conversations.message import ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.journal import Journal
from orchestrator.task import StopReason
from workers.agents.agent import ToolResult
from workers.approval import Approvals, AskedCall
from workers.completion_marks import CompletionMarks
from workers.errors import GateClosed, SoftTimeLimitReached, UnreadableStep
from workers.item_log import ItemLog
from workers.llm.metered import MeteredProvider
from workers.llm.provider import LLMProvider
from workers.once_call import OnceCall, UnsettledCalls
from workers.recorded_steps import RecordedSteps
from workers.run_events import tool_ended_events
from workers.run_steps import read_outcome, tool_step
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolContext

_RunTool = Callable[[ToolContext], Awaitable[ToolResult]]


class RunCalls:
    """Makes the calls of one run."""

    __slots__ = (
        "_approvals",
        "_config",
        "_item_log",
        "_llm",
        "_log",
        "_marks",
        "_registry",
        "_run",
        "_steps",
        "shown",
        "unsettled",
    )

    def __init__(
        self,
        steps: RecordedSteps,
        marks: CompletionMarks,
        items: ItemLog,
        *,
        config: AgentConfig,
        tools: ToolRegistry,
        journal: Journal,
    ) -> None:
        self._steps = steps
        self._run = steps.run
        self._log = steps.log
        self._marks = marks
        self._llm = marks.llm
        self._item_log = items
        self._config = config
        self._registry = tools
        self.unsettled = UnsettledCalls(self._run, self._log, journal)
        """Those that must not be cut off, and what earlier attempts have left of them.
        """
        self._approvals = Approvals(self._run, journal, tools=tools)
        self.shown = self._approvals.shown
        """What the run's model has been shown."""

    async def make(
        self, call: ToolCall, *, registry: ToolRegistry | None = None
    ) -> ToolResult:
        place, index = (
            f"{self._steps.completion_count}:{call.id}",
            self._steps.item_count,
        )
        self._steps.item_count += 1
        source = registry or self._registry
        allowed = registry.names if registry else self._config.tools
        tool = source.find_tool(call.name) if call.name in allowed else None
        if (done := self._steps.get(f"tool:{place}")) is not None:
            self.shown.note_result(tool)
            self._marks.after_call(self._steps.next_completion)
            return await self._result_before(done.outcome)
        if self._was_cut_before:
            raise SoftTimeLimitReached("an earlier attempt ended without this call")
        asked = AskedCall(call, tool, place)
        run_tool = partial(source.call, call, allowed=allowed)
        try:
            with self.unsettled.under_way() if asked.is_once else nullcontext():
                result = await self._make_call(asked, index, run_tool)
        except GateClosed:
            await self.unsettled.all_ended()
            raise
        self.shown.note_result(tool)
        return result

    @property
    def _was_cut_before(self) -> bool:
        """Whether an earlier attempt gave its last answer without what comes here."""
        step = self._steps.get(self._steps.next_completion)
        facts = step.outcome if step is not None else None
        closing = facts.get("closing") if isinstance(facts, dict) else None
        return closing == StopReason.SOFT_TIME_LIMIT

    async def _result_before(self, outcome: JsonValue) -> ToolResult:
        try:
            return read_outcome(ToolResult.model_validate, outcome)
        except UnreadableStep:
            await self.unsettled.all_ended()
            raise

    async def _make_call(
        self, asked: AskedCall, index: int, run_tool: _RunTool
    ) -> ToolResult:
        call, tool, place = asked
        waits = self._approvals.needs_one(asked)
        # A pure call may run before anybody is told.
        at_once = waits or not (tool and tool.effect == "pure")
        item_id = f"call-{place}"
        with self._run.recording():
            await self._item_log.load()
            item = self._item_log.find(item_id) or self._item_log.place(item_id, index)
            telling = await self._item_log.announce(call, item, at_once=at_once)
        # An attempt that ends within a `once` call leaves its outcome unknown.
        source = partial(self._llm.for_tool, may_park=not asked.is_once)
        llm = MeteredProvider(source, model=self._config.model, over=self._run.is_over)
        ctx, started = self._tool_context(place, llm), monotonic()
        with llm:
            result = await self._settle_or_make(asked, ctx, run_tool, waits=waits)
        took, attempt = monotonic() - started, self._run.task.attempt
        step = tool_step(
            f"tool:{place}", call.name, result, llm=llm, seconds=took, attempt=attempt
        )
        events = tool_ended_events(
            call, result, item_id=item_id, index=item.index, seconds=took
        )
        events = [*await telling.take_back(), *events]
        self._item_log.end(item)
        with self._run.recording():
            then = self._marks.after_call(self._steps.next_completion)
            self._steps.add(await self._log.record(step, events, then=then))
        return result

    async def _settle_or_make(
        self, asked: AskedCall, ctx: ToolContext, run_tool: _RunTool, *, waits: bool
    ) -> ToolResult:
        call, tool, place = asked
        once = OnceCall(call, tool, ctx, place) if tool and asked.is_once else None
        result = await self._approvals.settled(asked) if waits else None
        if result is None and once is not None:
            result = await self.unsettled.settled(once)
        if result is not None:
            return result
        async with self._run.step(call.name):
            # No boundary lies between what is written here and the call.
            if waits:
                await self._approvals.use(asked, record=self._steps.decided)
            if once is not None:
                await self.unsettled.mark(once)
            return await run_tool(ctx)

    def _tool_context(self, place: str, llm: LLMProvider) -> ToolContext:
        task, name = self._run.task, self._config.name
        key = f"{task.tenant}:{task.id}:{place}"
        return ToolContext(task=task, agent_name=name, idempotency_key=key, llm=llm)
