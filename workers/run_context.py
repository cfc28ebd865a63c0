"""What an agent sees of its run: every step goes through here, once.

A step that the journal holds is answered from it. Keys are places in the run: the n-th
completion, a call of the n-th completion, the n-th use of a name; so an agent that
works the same way on every attempt finds its steps again. Steps started concurrently
must be started in the same order on every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from time import monotonic
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter

from conversations.json_value import check_json
from conversations.message import Message, ToolCall
from conversations.view import ConversationView
from orchestrator.agent_config import AgentConfig
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import (
    ANSWER_ITEM,
    ANSWER_KEY,
    EMPTY_JOURNAL,
    HANDOVER_KEY,
    Journal,
    Step,
    StepKind,
    StepStart,
)
from orchestrator.task import Task, TaskStats, Usage
from workers.agents.agent import ToolResult
from workers.announcement import Announcement
from workers.compaction import summary_message, summary_request
from workers.errors import (
    BudgetExceeded,
    CompletionRefused,
    ContextOverflow,
    EmptyCompletion,
    GateClosed,
    LLMError,
)
from workers.llm.metered import MeteredProvider
from workers.llm.provider import Completion, CompletionRequest, LLMProvider, ToolSpec
from workers.llm.run_provider import Answered, RunProvider
from workers.once_call import OnceCall, UnsettledCalls
from workers.prompt_tokens import Exchange, estimate_prompt
from workers.run import Run
from workers.run_events import (
    client_call_events,
    completion_events,
    message_events,
    tool_ended_events,
    tool_started_events,
)
from workers.run_log import RunLog
from workers.spent_budget import SpentBudget
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tool, ToolContext

_RunTool = Callable[[ToolContext], Awaitable[ToolResult]]


class _ToolCall(NamedTuple):
    """A call of a model that is not in the journal."""

    call: ToolCall
    place: str
    first_index: int
    once: Tool | None
    """The tool, when the call must not be made twice."""
    is_pure: bool
    """Whether it may run before anybody is told."""


SUMMARY_KEY = "summary"
_MESSAGES = TypeAdapter(tuple[Message, ...])


class JournaledRunContext:
    """The `RunContext` of every pool and of direct execution."""

    def __init__(
        self,
        run: Run,
        *,
        config: AgentConfig,
        log: RunLog,
        llm: RunProvider,
        tools: ToolRegistry,
        journal: Journal = EMPTY_JOURNAL,
    ) -> None:
        self._run = run
        self._config = config
        self._log = log
        self._llm = llm
        self._registry = tools
        self._steps = {step.key: step for step in journal.steps}
        self._maybe_paid = run.task.maybe_paid
        self._unsettled = UnsettledCalls(run, log, journal)
        self._spent = SpentBudget(run, journal, record=self._record_decision)
        llm.allow_budget(self._spent.times)
        self._unanswered: set[str] = set()
        self.exchanges: list[Exchange] = []
        """Prompts and completions of this run so far, also of earlier attempts."""
        self._completions = 0
        self._items = 0
        self._said: str | None = None
        self._names: Counter[str] = Counter()
        self.tools: tuple[ToolSpec, ...] = tuple(tools.specs(config.tools))

    @property
    def task(self) -> Task:
        return self._run.task

    @property
    def config(self) -> AgentConfig:
        return self._config

    @property
    def wrapping_up(self) -> bool:
        return self._run.wrapping_up

    def remaining_seconds(self) -> float:
        return self._run.remaining_seconds()

    def stats(self) -> TaskStats:
        """Sum what the journal holds."""
        kinds = Counter(step.kind for step in self._steps.values())
        usage = sum((step.usage for step in self._steps.values()), start=Usage())
        return TaskStats(
            usage=usage,
            completions=kinds[StepKind.COMPLETION],
            tool_calls=kinds[StepKind.TOOL_CALL],
            running_seconds=self.task.running_seconds + self._run.running_seconds(),
            attempts=self.task.attempt,
            maybe_paid=self._maybe_paid,
        )

    async def take_messages(self) -> tuple[Message, ...]:
        if self.task.conversation_id is None:
            return ()
        number = self._completions + 1
        taken: list[Step] = []
        while True:
            key = f"messages:{number}:{len(taken) + 1}"
            step = self._steps.get(key)
            if step is None and f"completion:{number}" not in self._steps:
                step = await self._log.take(key)
            if step is None:
                break
            self._steps[key] = step
            taken.append(step)
        return tuple(
            message
            for step in taken
            for message in _MESSAGES.validate_python(step.outcome)
        )

    async def summarise(self, view: ConversationView) -> Message | None:
        """Summarise what the window left out, once in the run; None without need.

        A run that began without a summary goes on without one. A model that cannot
        take the text leaves history out unsummarised.
        """
        done = self._steps.get(SUMMARY_KEY)
        if done is not None:
            return Message.model_validate(done.outcome)
        if not view.to_summarise or "completion:1" in self._steps:
            return None
        request = summary_request(view.to_summarise, model=self._config.model)
        started = monotonic()
        try:
            answered = await self._ask(SUMMARY_KEY, request)
        except (ContextOverflow, CompletionRefused, EmptyCompletion) as exc:
            await self.progress(f"history was left out unsummarised: {exc.code}")
            return None
        completion = answered.completion
        summary = summary_message(completion.message.content, covers=view.window.cut)
        usage = completion.usage or Usage()
        facts: dict[str, JsonValue] = {
            "name": SUMMARY_KEY,
            "covers": summary.covers,
            "messages": len(view.to_summarise),
            "usage": usage.model_dump(mode="json"),
        }
        step = Step(
            key=SUMMARY_KEY,
            kind=StepKind.COMPLETION,
            outcome=summary.model_dump(mode="json", exclude_defaults=True),
            name=completion.model,
            usage=usage,
            cost_micros=completion.cost_micros,
            waited_seconds=completion.gate_wait_seconds,
            seconds=monotonic() - started,
            attempt=self.task.attempt,
        )
        events = [NewEvent(type=EventType.STEP_RECORDED, data=facts)]
        await self._record(step, events, answered)
        return summary

    async def complete(self, request: CompletionRequest) -> Completion:
        self._completions += 1
        number = self._completions
        key = f"completion:{number}"
        index = self._items
        done = self._steps.get(key)
        if done is not None:
            completion = Completion.model_validate(done.outcome)
            self.exchanges.append(Exchange(request, completion))
            self._items += bool(completion.message.content)
            self._said = completion.message.content
            return completion
        started = monotonic()
        try:
            answered = await self._ask_within_budget(key, request)
        except Exception:
            # The place is still free: the next completion, in this attempt or in a
            # later one, is the one that stands in the journal.
            if self._completions == number:
                self._completions -= 1
            raise
        completion, seconds = answered.completion, monotonic() - started
        self.exchanges.append(Exchange(request, completion))
        self._items += bool(completion.message.content)
        self._said = completion.message.content
        events = completion_events(
            completion,
            number=number,
            first_index=index,
            seconds=seconds,
            estimated_tokens=estimate_prompt(request),
        )
        step = Step(
            key=key,
            kind=StepKind.COMPLETION,
            name=completion.model,
            outcome=completion.model_dump(mode="json", exclude_defaults=True),
            said=completion.message.content or None,
            usage=completion.usage or Usage(),
            cost_micros=completion.cost_micros,
            waited_seconds=completion.gate_wait_seconds,
            seconds=seconds,
            attempt=self.task.attempt,
        )
        await self._record(step, events, answered)
        return completion

    async def _ask_within_budget(
        self, key: str, request: CompletionRequest
    ) -> Answered:
        while True:
            try:
                return await self._ask(key, request)
            except BudgetExceeded as exc:
                if self._config.budget.when_spent != "wait":
                    raise
                await self._spent.decided(exc)
            self._llm.allow_budget(self._spent.times)

    async def _ask(self, key: str, request: CompletionRequest) -> Answered:
        """Ask the model; while its gate is closed, nothing is marked as begun."""
        marked = partial(self._marked, key)
        try:
            with self._run.step("completion"):
                return await self._llm.answer(request, around=marked)
        except GateClosed:
            await self._unsettled.all_ended()
            raise

    @asynccontextmanager
    async def _marked(self, key: str) -> AsyncIterator[None]:
        """Enclose a request by a start mark and, when it is refused, its removal."""
        start = StepStart(key=key, kind=StepKind.COMPLETION)
        self._maybe_paid += await self._log.start(start)
        try:
            yield
        except LLMError as exc:
            if exc.status is None:
                self._unanswered.add(key)
            elif key not in self._unanswered:
                await self._log.drop_start(key)
            raise

    async def call_tool(
        self, call: ToolCall, *, registry: ToolRegistry | None = None
    ) -> ToolResult:
        place = f"{self._completions}:{call.id}"
        index = self._items
        self._items += 1
        done = self._steps.get(f"tool:{place}")
        if done is not None:
            return ToolResult.model_validate(done.outcome)
        source = registry or self._registry
        allowed = registry.names if registry else self._config.tools
        tool = source.find_tool(call.name) if call.name in allowed else None
        is_once = tool is not None and tool.effect == "once"
        is_pure = tool is not None and tool.effect == "pure"
        asked = _ToolCall(call, place, index, tool if is_once else None, is_pure)
        run_tool = partial(source.call, call, allowed=allowed)
        try:
            with self._unsettled.under_way() if is_once else nullcontext():
                return await self._make_call(asked, run_tool)
        except GateClosed:
            await self._unsettled.all_ended()
            raise

    async def _make_call(self, asked: _ToolCall, run_tool: _RunTool) -> ToolResult:
        call, place, index, once, is_pure = asked
        item_id = f"call-{place}"
        events = tool_started_events(call, item_id=item_id, index=index)
        announcement = Announcement(self._log, events)
        if not is_pure:
            with self._run.recording():
                await announcement.tell()
        # An attempt that ends within a `once` call leaves its outcome unknown.
        source = self._llm.for_tool(may_park=once is None)
        llm = MeteredProvider(source, model=self._config.model)
        started = monotonic()
        ctx = self._tool_context(place, llm)
        result = None
        if once is not None:
            result = await self._unsettled.begin(OnceCall(call, once, ctx, place))
        if result is None:
            with self._run.step(call.name):
                result = await run_tool(ctx)
        seconds = monotonic() - started
        step = Step(
            key=f"tool:{place}",
            kind=StepKind.TOOL_CALL,
            name=call.name,
            outcome=result.model_dump(mode="json", exclude_defaults=True),
            usage=llm.usage,
            cost_micros=llm.cost_micros,
            waited_seconds=llm.waited_seconds,
            error=result.error,
            seconds=seconds,
            attempt=self.task.attempt,
        )
        events = [
            *await announcement.take_back(),
            *tool_ended_events(
                call, result, item_id=item_id, index=index, seconds=seconds
            ),
        ]
        await self._record(step, events)
        return result

    async def step(
        self, name: str, function: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        self._names[name] += 1
        key = f"step:{name}:{self._names[name]}"
        done = self._steps.get(key)
        if done is not None:
            return done.outcome
        started = monotonic()
        with self._run.step(name):
            outcome = check_json(await function(), path=f"outcome of step {name!r}")
        step = Step(
            key=key,
            kind=StepKind.CUSTOM,
            name=name,
            outcome=outcome,
            seconds=monotonic() - started,
            attempt=self.task.attempt,
        )
        facts: dict[str, JsonValue] = {"name": name, "seconds": round(step.seconds, 3)}
        await self._record(step, [NewEvent(type=EventType.STEP_RECORDED, data=facts)])
        return outcome

    async def hand_over(self, calls: Sequence[ToolCall]) -> None:
        index = self._items
        self._items += len(calls)
        events = client_call_events(calls, completion=self._completions, index=index)
        outcome: list[JsonValue] = [call.model_dump(mode="json") for call in calls]
        await self._note(f"{HANDOVER_KEY}:{self._completions}", outcome, events)

    async def conclude(self, content: str) -> None:
        """Show the answer as an item of its own, unless a completion has said it."""
        if not content.strip() or content == self._said:
            return
        events = message_events(content, item_id=ANSWER_ITEM, index=self._items)
        await self._note(ANSWER_KEY, content, events)

    async def _note(self, key: str, outcome: JsonValue, events: list[NewEvent]) -> None:
        if key in self._steps:
            return
        step = Step(
            key=key,
            kind=StepKind.CUSTOM,
            name=key.partition(":")[0],
            outcome=outcome,
            attempt=self.task.attempt,
        )
        await self._record(step, events)

    async def progress(self, message: str, **facts: JsonValue) -> None:
        data: dict[str, JsonValue] = {**facts, "message": message}
        with self._run.recording():
            await self._log.emit([NewEvent(type=EventType.PROGRESS, data=data)])

    async def _record(
        self, step: Step, events: list[NewEvent], answered: Answered | None = None
    ) -> None:
        dues = answered.dues if answered else None
        with self._run.recording():
            try:
                kept = await self._log.record(step, events, dues=dues)
            finally:
                if answered is not None:
                    answered.recorded()
            self._steps[step.key] = kept

    async def _record_decision(self, step: Step) -> None:
        facts: dict[str, JsonValue] = {"name": step.name, "decision": step.outcome}
        await self._record(step, [NewEvent(type=EventType.STEP_RECORDED, data=facts)])

    def _tool_context(self, place: str, llm: LLMProvider) -> ToolContext:
        return ToolContext(
            task=self.task,
            agent_name=self._config.name,
            idempotency_key=f"{self.task.tenant}:{self.task.id}:{place}",
            llm=llm,
        )
