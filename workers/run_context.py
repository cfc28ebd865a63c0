"""What an agent sees of its run: every step goes through here, once.

A step that the journal holds is answered from it. Keys are places in the run: the n-th
completion, a call of the n-th completion, the n-th use of a name; so an agent finds its
steps again that works, and begins concurrent steps, in the same way on every attempt.
Completions are asked for here, tools are called by `run_calls.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from inspect import isawaitable
from time import monotonic
from typing import Any

from pydantic import JsonValue, TypeAdapter

from conversations.json_value import JsonObject, plain_json
from conversations.message import Message, ToolCall
from conversations.trusted import changed
from conversations.view import ConversationView
from orchestrator.agent_config import AgentConfig
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import (
    ANSWER_ITEM,
    ANSWER_KEY,
    EMPTY_JOURNAL,
    HANDOVER_KEY,
    SUMMARY_KEY,
    Journal,
    summary_of,
)
from orchestrator.task import StopReason, Task, TaskStats
from workers.agents.agent import ToolResult
from workers.compaction import summary_message, summary_request
from workers.completion_marks import CompletionMarks, Keeping
from workers.errors import (
    BudgetExceeded,
    CompletionRefused,
    ContextOverflow,
    EmptyCompletion,
    GateClosed,
    SoftTimeLimitReached,
)
from workers.item_log import ItemLog
from workers.live_text import LiveText
from workers.llm.prompt_size import prompt_tokens
from workers.llm.provider import Completion, CompletionRequest, ToolSpec
from workers.llm.run_provider import Answered, RunProvider
from workers.prompt_tokens import Exchange
from workers.recorded_steps import RecordedSteps
from workers.run import Run
from workers.run_calls import RunCalls
from workers.run_events import (
    client_call_events,
    completion_event,
    message_events,
    summary_event,
)
from workers.run_log import RunLog
from workers.run_steps import (
    completion_step,
    custom_step,
    read_outcome,
    stats_of,
    summary_step,
)
from workers.shown_history import ShownHistory
from workers.spent_budget import SpentBudget
from workers.tools.registry import ToolRegistry

_MESSAGES = TypeAdapter(tuple[Message, ...])
_FACTS = TypeAdapter(JsonObject)
_NOTHING_SHOWN = ShownHistory()
_MET_ONCE = (StopReason.SOFT_TIME_LIMIT, StopReason.BUDGET)
"""Limits that a later attempt may not meet before the answer that its journal holds."""


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
        self._steps = RecordedSteps(run, log, journal)
        self._spent = SpentBudget(run, journal)
        if self._spent.allowed > 1:
            llm.allow_budget(self._spent.allowed)
        self._marks = CompletionMarks(run, log, llm)
        self.exchanges: list[Exchange] = []
        """Prompts and completions of this run so far, also of earlier attempts."""
        self.taken: list[Message] = []
        """What users have said to this run since its beginning."""
        self._history = _NOTHING_SHOWN
        self._item_log = ItemLog(log, attempt=run.task.attempt)
        self._calls = RunCalls(
            self._steps,
            self._marks,
            self._item_log,
            config=config,
            tools=tools,
            journal=journal,
        )
        self._said: str | None = None
        self.ends_with_answer = False
        """Whether only our own code runs after a completion without calls."""
        self._names: dict[str, int] = {}
        self.tools: tuple[ToolSpec, ...] = tools.specs(config.tools)

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
        return stats_of(
            self._steps.values(),
            running_seconds=self.task.running_seconds + self._run.running_seconds(),
            attempts=self.task.attempt,
            maybe_paid=self.task.maybe_paid + self._marks.maybe_paid,
        )

    async def take_messages(self) -> tuple[Message, ...]:
        if self.task.conversation_id is None:
            return ()
        number = self._steps.completion_count + 1
        taken: list[JsonValue] = []
        while True:
            key = f"messages:{number}:{len(taken) + 1}"
            step = self._steps.get(key)
            if step is None and f"completion:{number}" not in self._steps:
                with self._run.recording():
                    step = await self._log.take(key)
            if step is None:
                break
            self._steps[key] = step
            taken.append(step.outcome)
        read = partial(read_outcome, _MESSAGES.validate_python)
        messages = [message for outcome in taken for message in read(outcome)]
        self.taken += messages
        return tuple(messages)

    async def summarise(self, view: ConversationView) -> Message | None:
        """Summarise what the window left out, once in the run; None without need.

        A run that began without one goes on so. A soft limit, or a model that cannot
        take the text, leaves history out unsummarised.
        """
        self._history = ShownHistory(view)
        done = self._steps.get(SUMMARY_KEY)
        if done is not None:
            return read_outcome(summary_of, done.outcome)
        if not view.to_summarise or "completion:1" in self._steps:
            return None
        started = monotonic()
        request = summary_request(view.to_summarise, model=self._config.model)
        try:
            answered = await self._ask(SUMMARY_KEY, request)
        except SoftTimeLimitReached:
            self._run.tell_limit_again()
            return None
        except (ContextOverflow, CompletionRefused, EmptyCompletion) as exc:
            await self.progress(f"history was left out unsummarised: {exc.code}")
            return None
        completion, _, dues = answered
        async with Keeping(self._run, self._llm, answered, None):
            text = completion.message.content
            summary = summary_message(text, covers=view.window.cut)
            took, attempt = monotonic() - started, self.task.attempt
            step = summary_step(completion, summary, seconds=took, attempt=attempt)
            event = summary_event(summary, step, messages=len(view.to_summarise))
            self._steps.add(await self._log.record(step, [event], dues=dues))
        if summary is None:
            await self.progress("history was left out: the model gave no summary")
        return summary

    async def complete(self, request: CompletionRequest) -> Completion:
        self._calls.shown.note_prompt(request.messages)
        number = self._steps.completion_count = self._steps.completion_count + 1
        key = f"completion:{number}"
        if (done := self._steps.get(key)) is not None:
            return self._said_before(request, done.outcome)
        started = monotonic()
        index = self._steps.item_count
        live = LiveText(self._log, self._item_log, number=number, index=index)
        try:
            answered = await self._ask_live(key, request, live)
        except Exception:
            # The place is free: a later completion is the one in the journal.
            if self._steps.completion_count == number:
                self._steps.completion_count -= 1
            raise
        async with Keeping(self._run, self._llm, answered, live):
            await live.pause()
            completion, estimate, dues = answered
            if request.closing is not None:
                completion = _closing(completion, request.closing)
            seconds = monotonic() - started
            self._note_answer(estimate, completion)
            seen = self._history.ranges_in(request.messages)
            event = completion_event(
                completion, seconds, number=number, estimated=estimate, history=seen
            )
            calls = bool(completion.message.tool_calls)
            content = completion.message.content
            events = [*live.finish(content, is_commentary=calls), event]
            attempt, shown = self.task.attempt, live.shown_as
            step = completion_step(
                key, completion, seconds=seconds, attempt=attempt, shown_as=shown
            )
            ends = self.ends_with_answer and not calls
            done = await self._log.record(step, events, dues=dues, may_wait=ends)
            self._steps.add(done)
        return completion

    def _said_before(
        self, request: CompletionRequest, outcome: JsonValue
    ) -> Completion:
        """Return the completion that the journal holds.

        Raises:
            SoftTimeLimitReached, BudgetExceeded: an earlier attempt met it here, and
                the answer is that to its closing question.
            UnreadableStep: another release recorded it.
        """
        completion = read_outcome(Completion.model_validate, outcome)
        if completion.closing is not None and request.closing is None:
            self._steps.completion_count -= 1
            if completion.closing is StopReason.SOFT_TIME_LIMIT:
                raise self._run.limit_told_before()
            raise BudgetExceeded("the budget was spent in an earlier attempt")
        self._note_answer(prompt_tokens(request), completion)
        return completion

    def _note_answer(self, prompt_tokens: int, completion: Completion) -> None:
        self.exchanges.append(Exchange.of(completion, prompt_tokens))
        self._steps.item_count += bool(completion.message.content)
        self._said = completion.message.content
        self._marks.note_answer(completion)

    async def _ask_live(
        self, key: str, request: CompletionRequest, live: LiveText
    ) -> Answered:
        try:
            with self._run.recording():
                await live.load()
            while True:
                times = self._spent.times
                try:
                    return await self._ask(key, request, live)
                except BudgetExceeded as exc:
                    if self._config.budget.when_spent != "wait":
                        raise
                    record = self._steps.decided
                    await self._spent.decided(exc, times=times, record=record)
                self._llm.allow_budget(self._spent.allowed)
        except BaseException:
            with self._run.recording():
                await live.leave()
            raise

    async def _ask(
        self, key: str, request: CompletionRequest, live: LiveText | None = None
    ) -> Answered:
        """Ask the model; while its gate is closed, nothing is marked as begun."""
        marked = partial(self._marks.around, key, live)
        try:
            async with self._run.step("completion"):
                return await self._llm.answer(request, around=marked)
        except GateClosed:
            await self._calls.unsettled.all_ended()
            raise

    def call_tool(
        self, call: ToolCall, *, registry: ToolRegistry | None = None
    ) -> Coroutine[Any, Any, ToolResult]:
        # Not `async` itself: each call would pay for a second coroutine.
        return self._calls.make(call, registry=registry)

    async def step(
        self, name: str, function: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        number = self._names[name] = self._names.get(name, 0) + 1
        key = f"step:{name}:{number}"
        if (recorded := self._steps.get(key)) is not None:
            return recorded.outcome
        started = monotonic()
        async with self._run.step(name):
            done = await _begun(name, function())
            outcome = plain_json(done, path=f"outcome of step {name!r}")
        seconds, attempt = monotonic() - started, self.task.attempt
        step = custom_step(key, name, outcome, attempt=attempt, seconds=seconds)
        await self._steps.tell(step, seconds=round(seconds, 3))
        return outcome

    async def hand_over(self, calls: Sequence[ToolCall]) -> None:
        await self._item_log.load()
        number, wanted = self._steps.completion_count, self._steps.item_count
        index = self._item_log.place(HANDOVER_KEY, wanted).index
        self._steps.item_count = index + len(calls)
        events = client_call_events(calls, completion=number, index=index)
        outcome: list[JsonValue] = [call.model_dump(mode="json") for call in calls]
        await self._steps.note(f"{HANDOVER_KEY}:{number}", outcome, events)

    async def conclude(self, content: str) -> None:
        """Show the answer as an item of its own, unless a completion has said it."""
        if content.strip() and content != self._said:
            await self._item_log.load()
            index = self._item_log.place(ANSWER_ITEM, self._steps.item_count).index
            events = message_events(content, item_id=ANSWER_ITEM, index=index)
            await self._steps.note(ANSWER_KEY, content, events, may_wait=True)

    async def progress(self, message: str, **facts: JsonValue) -> None:
        data = _FACTS.validate_python({**facts, "message": message})
        with self._run.recording():
            await self._log.emit([NewEvent(type=EventType.PROGRESS, data=data)])


def _closing(completion: Completion, reason: StopReason) -> Completion:
    """Return an answer to a closing question, with nothing that was to follow it."""
    if reason in _MET_ONCE:
        completion = changed(completion, closing=reason)
    if not completion.message.content.strip():
        return completion
    answer = changed(completion.message, tool_calls=())
    return changed(completion, message=answer)


def _begun(name: str, outcome: Awaitable[JsonValue]) -> Awaitable[JsonValue]:
    if not isawaitable(outcome):
        raise TypeError(
            f"step {name!r} gave {type(outcome).__name__} at once;"
            " write its function as `async def`"
        )
    return outcome
