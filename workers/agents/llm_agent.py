"""The tool loop: ask the model, run the tools that it calls, until it answers.

Knows no tool and no endpoint; a run's limits come from its configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from conversations.errors import ContextTooLong
from conversations.fitting import fit_history, fit_turn
from conversations.message import Message, Role, ToolCall
from conversations.window import tokens_of
from orchestrator.task import StopReason
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.agents.sampling import Sampling
from workers.errors import (
    AgentFailed,
    ContextOverflow,
    EmptyCompletion,
    InvalidToolArguments,
    SoftTimeLimitReached,
)
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    FinishReason,
    ToolSpec,
)
from workers.tools.concurrently import gather_or_cancel
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolResult

CONCURRENT_TOOL_CALLS = 8
"""Calls of one turn that run at once, so that one run cannot take a whole worker."""

SHRINK = 0.5
"""A prompt that the endpoint found too long is sent again once, cut to this share."""

CLOSING = {
    StopReason.MAX_TURNS: "You have reached the limit of turns or tool calls.",
    StopReason.SOFT_TIME_LIMIT: "The time for this task is over.",
}
ANSWER_NOW = (
    " No more tools can be used. Give your best answer now with what you have found,"
    " and say what is missing."
)

_STOP_REASONS = {
    FinishReason.LENGTH: StopReason.MAX_TOKENS,
    FinishReason.CONTENT_FILTER: StopReason.CONTENT_FILTER,
}


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
            registry: Tools of this agent alone, beside the configured ones; all of
                them may be called.
        """
        self._instructions = instructions
        self._registry = registry or ToolRegistry()

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        instructions = "\n\n".join(
            text
            for text in (self._instructions, ctx.config.instructions)
            if text.strip()
        )
        loop = _ToolLoop(
            ctx, agent_input, instructions=instructions, registry=self._registry
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
    ) -> None:
        self._ctx = ctx
        self._registry = registry
        self._sampling = Sampling.of(ctx.config, agent_input.parameters)
        self._head = list(agent_input.messages)
        if instructions:
            self._head.insert(0, Message(role=Role.SYSTEM, content=instructions))
        self._tokens = agent_input.context_tokens
        self._turn = [Message(role=Role.USER, content=agent_input.prompt())]
        self._calls_left = ctx.config.max_tool_calls
        self._slots = asyncio.Semaphore(CONCURRENT_TOOL_CALLS)
        own = registry.names
        configured = [spec for spec in ctx.tools if spec.name not in own]
        self._configured_names = {spec.name for spec in configured}
        self._tools = (*configured, *registry.specs(own)) if self._calls_left else ()

    async def run(self) -> AgentResult:
        with suppress(SoftTimeLimitReached):
            for _ in range(self._ctx.config.max_turns):
                self._turn += await self._ctx.take_messages()
                completion = await self._complete(self._turn, self._tools)
                if not completion.message.tool_calls:
                    return self._answer(completion)
                within_limits = await self._run_calls(completion)
                if self._ctx.wrapping_up or not within_limits:
                    break
        return await self._close()

    async def _complete(
        self, turn: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> Completion:
        request = self._request(turn, tools)
        try:
            return await self._ctx.complete(request)
        except EmptyCompletion:
            return await self._ctx.complete(request)
        except ContextOverflow as exc:
            needed = sum(tokens_of(message) for message in request.messages)
            limit = exc.context_tokens or needed
            self._tokens = min(self._tokens or needed, int(needed * SHRINK))
            try:
                return await self._ctx.complete(self._request(turn, tools))
            except ContextOverflow:
                raise ContextTooLong(needed=needed, limit=limit) from exc

    def _request(
        self, turn: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> CompletionRequest:
        if self._tokens is not None:
            self._head = list(fit_history(self._head, turn, tokens=self._tokens))
            turn = fit_turn(self._head, turn, tokens=self._tokens)
        return self._sampling.request([*self._head, *turn], tools=tools)

    def _answer(self, completion: Completion) -> AgentResult:
        reason = _STOP_REASONS.get(completion.finish_reason, StopReason.END_TURN)
        return AgentResult(
            content=completion.message.content,
            stop_reason=reason,
            partial=reason is not StopReason.END_TURN,
            messages=(*self._turn, completion.message),
        )

    async def _close(self) -> AgentResult:
        try:
            completion = await self._last_completion()
        except SoftTimeLimitReached:
            completion = await self._last_completion()
        content = completion.message.content
        reason = self._limit_reached()
        if not content.strip():
            raise AgentFailed(
                f"the run stopped ({reason.value}) and the model gave no answer when"
                " asked for one without tools; raise the limit or use another model",
                code="no_answer",
            )
        answer = completion.message.model_copy(update={"tool_calls": ()})
        return AgentResult(
            content=content,
            stop_reason=reason,
            partial=True,
            messages=(*self._turn, answer),
        )

    async def _last_completion(self) -> Completion:
        order = CLOSING[self._limit_reached()] + ANSWER_NOW
        closing = Message(role=Role.USER, content=order)
        return await self._complete([*self._turn, closing], ())

    def _limit_reached(self) -> StopReason:
        timed_out = self._ctx.wrapping_up
        return StopReason.SOFT_TIME_LIMIT if timed_out else StopReason.MAX_TURNS

    async def _run_calls(self, completion: Completion) -> bool:
        """Run a turn's calls and add their results; False when the limit cut some off.

        Whatever happens to a call, the turn holds a result for it: a history with an
        open call could not be continued.
        """
        calls = completion.message.tool_calls
        refused = self._refused(completion)
        over_limit = len(calls) > self._calls_left
        self._calls_left = max(0, self._calls_left - len(calls))
        results = await gather_or_cancel(
            self._call(call, refused.get(call.id)) for call in calls
        )
        self._turn.append(completion.message)
        self._turn += [result.as_message() for result in results]
        return not over_limit

    def _refused(self, completion: Completion) -> dict[str, ToolResult]:
        calls = completion.message.tool_calls
        refused = {
            id_: _refusal(id_, InvalidToolArguments.code, f"invalid arguments: {why}")
            for id_, why in completion.invalid_arguments.items()
        }
        if completion.finish_reason is FinishReason.LENGTH:
            last = calls[-1].id
            text = "the call was cut off at the token limit; make it again, shorter"
            refused[last] = _refusal(last, InvalidToolArguments.code, text)
        for call in calls[self._calls_left :]:
            text = (
                f"the limit of {self._ctx.config.max_tool_calls} tool calls is reached"
            )
            refused[call.id] = _refusal(call.id, "tool_call_limit", text)
        return refused

    async def _call(self, call: ToolCall, refused: ToolResult | None) -> ToolResult:
        if refused is not None:
            return refused
        own = self._registry.names and call.name not in self._configured_names
        async with self._slots:
            if self._ctx.wrapping_up:
                return _refusal(call.id, "soft_time_limit", "the time is over")
            try:
                return await self._ctx.call_tool(
                    call, registry=self._registry if own else None
                )
            except SoftTimeLimitReached:
                return _refusal(call.id, "soft_time_limit", "the time is over")


def _refusal(call_id: str, code: str, text: str) -> ToolResult:
    return ToolResult(call_id=call_id, content=f"No result: {text}.", error=code)
