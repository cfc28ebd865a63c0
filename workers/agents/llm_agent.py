"""The tool loop: ask the model, run the tools that it calls, until it answers.

Knows no tool and no endpoint; a run's limits come from its configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import JsonValue

from conversations.client_calls import marked_as_client
from conversations.errors import ContextTooLong
from conversations.fitting import fit_history, fit_turn
from conversations.json_value import check_json
from conversations.mending import mended
from conversations.message import Message, Role, ToolCall
from conversations.trusted import trusted
from conversations.window import tokens_of
from orchestrator.task import StopReason
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.agents.last_answer import as_short, closing_question, text_of, unpaid
from workers.agents.refused_calls import invalid_turns, refused_calls, too_late
from workers.agents.run_options import RunOptions
from workers.agents.sampling import Sampling, Samplings
from workers.agents.turn_messages import instruction, opening_of_turn
from workers.errors import (
    AgentFailed,
    BudgetExceeded,
    ContextOverflow,
    EmptyCompletion,
    MalformedCompletion,
    SoftTimeLimitReached,
)
from workers.llm.provider import Completion, CompletionRequest, FinishReason, ToolSpec
from workers.tools.concurrently import gather_or_cancel
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolResult

if TYPE_CHECKING:
    from workers.agents.structured import OutputFormat

CONCURRENT_TOOL_CALLS = 8
"""Calls of one turn that run at once, so that one run cannot take a whole worker."""

SHRINK = 0.5
"""A prompt that the endpoint found too long is sent again once, cut to this share."""

MAX_OUTPUT_REPAIRS = 2
"""Times that an answer which does not fit the output schema is asked for again."""
CALL_NOW = "You must call one of your tools now; answer with the call alone."

CUT_SHORT = {
    FinishReason.LENGTH: StopReason.MAX_TOKENS,
    FinishReason.CONTENT_FILTER: StopReason.CONTENT_FILTER,
}
"""Why an answer is partial."""


class LLMAgent:
    """Answers with a model that may call tools.

    A stop rule (turns, tool calls, soft time limit) is no error: the model is asked
    once more, without tools, and the answer is marked partial.
    """

    def __init__(
        self, *, instructions: str = "", registry: ToolRegistry | None = None
    ) -> None:
        """Make the agent.

        Args:
            instructions: Stand before the configured ones in the system prompt.
            registry: Tools of this agent alone, all of which may be called.
        """
        self._instructions = instructions
        self._registry = registry or ToolRegistry()
        self._samplings = Samplings()
        self.tool_tags = self._registry.tags

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        instructions = "\n\n".join(
            text
            for text in (self._instructions, ctx.config.instructions)
            if text.strip()
        )
        loop = _ToolLoop(
            ctx,
            agent_input,
            instructions=instructions,
            registry=self._registry,
            sampling=self._samplings.of(ctx.config, agent_input.parameters),
        )
        return await loop.run()


class _ToolLoop:
    """One run: its prompt so far and what is left of its limits."""

    def __init__(
        self,
        ctx: RunContext,
        agent_input: AgentInput,
        *,
        instructions: str,
        registry: ToolRegistry,
        sampling: Sampling,
    ) -> None:
        self._ctx = ctx
        self._registry = registry
        self._sampling = sampling
        own = registry.names
        configured = [spec for spec in ctx.tools if spec.name not in own]
        self._configured_names = tuple(spec.name for spec in configured)
        tools = (*configured, *registry.specs(own))
        self._options = RunOptions.of(
            agent_input.parameters, taken={spec.name for spec in tools}
        )
        self._client_names = tuple(spec.name for spec in self._options.specs)
        instructions = "\n\n".join(
            text for text in (instructions, self._options.instructions or "") if text
        )
        self._format = self._options.output_format(ctx.config.output_schema)
        if self._format is not None:
            instructions = f"{instructions}\n\n{self._format.instructions}".strip()
        self._head = list(agent_input.messages)
        if instructions:
            self._head.insert(0, instruction(instructions))
        self._tokens = agent_input.context_tokens
        self._turn = opening_of_turn(agent_input)
        usual, asked = ctx.config.max_tool_calls, self._options.max_tool_calls
        self._calls_left = usual if asked is None else min(usual, asked)
        self._invalid_turns = 0
        self._spent: BudgetExceeded | None = None
        self._closing: StopReason | None = None
        self._last_words = ""
        self._tools = (*tools, *self._options.specs) if self._calls_left else ()
        self._first_choice = self._options.first_choice()

    async def run(self) -> AgentResult:
        try:
            with suppress(SoftTimeLimitReached):
                answer = await self._converse()
                if answer is not None:
                    return answer
        except BudgetExceeded as exc:
            if self._ctx.config.budget.when_spent == "fail":
                raise
            self._spent = exc
        return await self._close()

    async def _converse(self) -> AgentResult | None:
        """Return the answer; None when a limit comes first."""
        for _ in range(self._ctx.config.max_turns):
            self._turn += await self._ctx.take_messages()
            tools = self._offered()
            completion = await self._complete(self._turn, tools)
            if self._lacks_its_call(completion):
                reminder = Message(role=Role.USER, content=CALL_NOW)
                turn = [*self._turn, completion.message, reminder]
                completion = await self._complete(turn, tools)
            if not completion.message.tool_calls:
                return await self._answer(completion)
            handed_over = self._for_client(completion)
            within_limits = await self._run_calls(completion, handed_over)
            if handed_over:
                return await self._hand_over(completion, handed_over)
            if self._ctx.wrapping_up or not within_limits:
                return None
        return None

    def _offered(self) -> tuple[ToolSpec, ...]:
        """Return the tools of the next completion; one that must be called, alone."""
        if not self._first_choice:
            return self._tools
        wanted = self._options.must_call
        return tuple(t for t in self._tools if t.name in wanted) or self._tools

    def _lacks_its_call(self, completion: Completion) -> bool:
        """Whether a call was required and not made: some servers know no such thing."""
        wanted = self._first_choice if self._tools else {}
        called = bool(completion.message.tool_calls)
        return bool(wanted) and wanted.get("tool_choice") != "none" and not called

    async def _say(self, turn: Sequence[Message]) -> Completion:
        """Complete without tools; calls are passed over, for nothing would run them."""
        completion = await self._complete(turn, ())
        words = completion.message.model_copy(update={"tool_calls": ()})
        return completion.model_copy(update={"message": words})

    async def _complete(
        self, turn: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> Completion:
        completion = await self._ask(turn, tools)
        if completion.message.content.strip():
            self._last_words = completion.message.content
        return completion

    async def _ask(
        self, turn: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> Completion:
        request = self._request(turn, tools)
        try:
            return await self._ctx.complete(request)
        except (EmptyCompletion, MalformedCompletion):
            # Models write calls that their server cannot parse: once more, no oftener.
            return await self._ctx.complete(request)
        except ContextOverflow as exc:
            needed = sum(tokens_of(message) for message in request.messages)
            self._tokens = min(self._tokens or needed, int(needed * SHRINK))
            try:
                return await self._ctx.complete(self._request(turn, tools))
            except (ContextOverflow, ContextTooLong):  # of the shortened one
                raise exc from None

    def _request(
        self, turn: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> CompletionRequest:
        if self._tokens is not None:
            self._head = list(fit_history(self._head, turn, tokens=self._tokens))
            turn = fit_turn(self._head, turn, tokens=self._tokens)
        request = self._sampling.request([*self._head, *turn], tools=tools)
        if self._format is not None and not tools:
            schema = {"output_schema": self._format.schema}
            request = request.model_copy(update=schema)
        if tools and self._first_choice:
            request = request.model_copy(update=self._first_choice)
        if self._closing is not None:
            request = request.model_copy(update={"closing": self._closing})
        if self._spent is not None:
            request = as_short(request)
        return request

    async def _answer(self, completion: Completion) -> AgentResult:
        output: JsonValue = None
        if self._format is not None:
            completion, output = await self._fitting(completion, self._format)
        reason = CUT_SHORT.get(completion.finish_reason, StopReason.END_TURN)
        return trusted(
            AgentResult,
            content=mended(completion.message.content),
            output=check_json(output, path="output"),
            stop_reason=reason,
            partial=reason is not StopReason.END_TURN,
            messages=(*self._turn, completion.message),
        )

    async def _fitting(
        self, completion: Completion, wanted: OutputFormat
    ) -> tuple[Completion, JsonValue]:
        """Return an answer that fits the schema, and its value."""
        turn = [*self._turn]
        output, problem = await wanted.read(completion.message.content)
        for _ in range(MAX_OUTPUT_REPAIRS):
            if not problem:
                break
            order = f"That answer cannot be used: {problem}. Answer again in JSON."
            said = [completion.message] if completion.message.content.strip() else []
            turn += [*said, Message(role=Role.USER, content=order)]
            completion = await self._say(turn)
            output, problem = await wanted.read(completion.message.content)
        if problem:
            raise AgentFailed(
                f"the model's answer does not fit output_schema after"
                f" {MAX_OUTPUT_REPAIRS} repairs: {problem}; simplify the schema or use"
                " another model",
                code="invalid_output",
            )
        return completion, output

    async def _close(self) -> AgentResult:
        try:
            completion = await self._last_completion()
        except SoftTimeLimitReached:
            completion = await self._last_completion()
        except BudgetExceeded as exc:
            return unpaid(self._spent or exc, self._turn, said=self._last_words)
        reason = self._limit_reached()
        content = text_of(completion, reason)
        output = (await self._format.read(content))[0] if self._format else None
        return AgentResult(
            content=content,
            output=output,
            stop_reason=reason,
            partial=True,
            messages=(*self._turn, completion.message),
        )

    async def _last_completion(self) -> Completion:
        self._closing = self._limit_reached()
        return await self._say([*self._turn, closing_question(self._closing)])

    def _limit_reached(self) -> StopReason:
        if self._spent is not None:
            return StopReason.BUDGET
        timed_out = self._ctx.wrapping_up
        return StopReason.SOFT_TIME_LIMIT if timed_out else StopReason.MAX_TURNS

    def _for_client(self, completion: Completion) -> list[ToolCall]:
        """Return the calls that the client is to make."""
        if self._options.tool_choice != "none":
            self._first_choice = {}
        refused = self._refused(completion)
        return [
            call
            for call in completion.message.tool_calls
            if call.name in self._client_names and call.id not in refused
        ]

    async def _hand_over(
        self, completion: Completion, calls: list[ToolCall]
    ) -> AgentResult:
        """End with calls of the client's; its outputs come with the next task."""
        await self._ctx.hand_over(calls)
        return AgentResult(
            content=completion.message.content,
            output={"tool_calls": [call.model_dump(mode="json") for call in calls]},
            stop_reason=StopReason.CLIENT_TOOL_CALLS,
            messages=tuple(self._turn),
        )

    async def _run_calls(
        self, completion: Completion, handed_over: Sequence[ToolCall]
    ) -> bool:
        """Run a turn's calls and add their results; False when the limit cut some off.

        Whatever happens to a call of ours, the turn holds a result for it: a history
        with an open call could not be continued. Only the client's stay open.
        """
        given = {call.id for call in handed_over}
        calls = [call for call in completion.message.tool_calls if call.id not in given]
        self._invalid_turns = invalid_turns(completion, before=self._invalid_turns)
        refused = self._refused(completion)
        asked = len(completion.message.tool_calls)
        over_limit = asked > self._calls_left
        self._calls_left = max(0, self._calls_left - asked)
        slots = asyncio.Semaphore(CONCURRENT_TOOL_CALLS)
        results = await gather_or_cancel(
            self._call(call, refused.get(call.id), slots) for call in calls
        )
        self._turn.append(marked_as_client(completion.message, given))
        self._turn += [result.as_message() for result in results]
        return not over_limit

    def _refused(self, completion: Completion) -> dict[str, ToolResult]:
        return refused_calls(
            completion,
            may_call=self._options.tool_choice != "none",
            left=self._calls_left,
            most=self._ctx.config.max_tool_calls,
        )

    async def _call(
        self, call: ToolCall, refused: ToolResult | None, slots: asyncio.Semaphore
    ) -> ToolResult:
        if refused is not None:
            return refused
        own = self._registry.names and call.name not in self._configured_names
        async with slots:
            if self._ctx.wrapping_up:
                return too_late(call)
            try:
                return await self._ctx.call_tool(
                    call, registry=self._registry if own else None
                )
            except SoftTimeLimitReached:
                return too_late(call)
