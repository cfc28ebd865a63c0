"""Asks the endpoints for a run: which model, through which gate, within which budget.

A `GovernedProvider` is a run's own; the `Governor` is the process's and knows no run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from orchestrator.agent_config import AgentConfig
from orchestrator.task import Task
from workers.errors import (
    ContextOverflow,
    LLMError,
    LLMUnavailable,
    RateLimited,
)
from workers.llm.calling import Calling
from workers.llm.context_guard import Readings, fitted, was_cut, weighed_tokens
from workers.llm.endpoints import Endpoints
from workers.llm.governed_call import (
    Call,
    Choice,
    How,
    Plan,
    choices_of,
    fit_for,
)
from workers.llm.governed_calls import CallRules, GovernedCalls
from workers.llm.prompt_size import PromptSizes
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.run_provider import Answered, Around, whole

logger = logging.getLogger(__name__)

_SURELY_SHORTER = 0.9
"""Of a prompt that our estimate would have let through."""
_SHORTENED_TO = 0.5
"""Of a prompt that the endpoint refused without saying what fits."""


class Governor:
    """The rules of a process; makes the provider of each run."""

    def __init__(self, endpoints: Endpoints, rules: CallRules) -> None:
        self.endpoints = endpoints
        self.rules = rules

    def lets_ask_at_once(self, config: AgentConfig) -> bool:
        """Whether an agent's completions mostly meet no gate and no budget."""
        endpoint = self.endpoints.get(config.endpoint)
        return not (endpoint.limits.are_set or self.rules.allowance.may_bound(config))

    def for_run(
        self, task: Task, config: AgentConfig, *, may_park: bool, may_owe: bool = False
    ) -> GovernedProvider:
        """Return the provider of a run.

        Args:
            task: Who asks.
            config: Its agent's.
            may_park: Whether a long wait may end the attempt.
            may_owe: Whether a step's record pays what its completion owes.
        """
        return GovernedProvider(
            self, task=task, config=config, may_park=may_park, may_owe=may_owe
        )

    async def aclose(self) -> None:
        """Close what it uses."""
        await self.rules.aclose()
        await self.endpoints.aclose()


class GovernedProvider:
    """The `RunProvider` of one run, and an `LLMProvider` for its tools."""

    def __init__(
        self,
        governor: Governor,
        *,
        task: Task,
        config: AgentConfig,
        may_park: bool,
        may_owe: bool,
    ) -> None:
        self._governor = governor
        self._task = task
        self._config = config
        self._may_park = may_park
        self._may_owe = may_owe
        self._calls = GovernedCalls(
            governor.rules, task=task, config=config, may_park=may_park
        )
        self._readings = Readings()
        self._sizes = PromptSizes()

    @property
    def asks_at_once(self) -> bool:
        endpoint = self._governor.endpoints.get(self._config.endpoint)
        return self._calls.asks_at_once(endpoint, self._config.model or endpoint.model)

    def pay_now(self, answered: Answered) -> None:
        if answered.dues is not None:
            self._governor.rules.pay_meanwhile(answered.dues)

    def allow_budget(self, times: int) -> None:
        self._calls.allow_budget(times)

    def for_tool(self, *, may_park: bool) -> GovernedProvider:
        may_park = may_park and self._may_park
        inner = self._governor.for_run(self._task, self._config, may_park=may_park)
        inner.allow_budget(self._calls.budget_times)
        return inner

    def answer(
        self, request: CompletionRequest, *, around: Around
    ) -> Coroutine[Any, Any, Answered]:
        return self._whole(request, How(around=around, owes=self._may_owe))

    async def complete(self, request: CompletionRequest) -> Completion:
        return (await self._whole(request, How())).completion

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        plan = self._plan(request)
        while True:
            begun = False
            try:
                pieces = self._pieces(plan.choices[0], plan.request)
                async with aclosing(pieces):
                    async for piece in pieces:
                        begun = True
                        yield piece
                        del piece  # errors of the next are reported with variables
            except LLMError as exc:
                if begun or not self._replan(plan, exc):
                    raise
            else:
                return

    async def aclose(self) -> None:
        """Leave the endpoints open; they have another owner."""

    async def _whole(self, request: CompletionRequest, how: How) -> Answered:
        """Ask one model after another; wait again where one asks to wait."""
        plan = self._plan(request)
        while True:
            try:
                return await self._ask(plan.choices[0], plan.request, how)
            except LLMError as exc:
                if not self._replan(plan, exc):
                    raise

    def _plan(self, request: CompletionRequest) -> Plan:
        choices = choices_of(self._governor.endpoints, self._config, request)
        return Plan(choices=list(choices), request=request)

    def _replan(self, plan: Plan, error: LLMError) -> bool:
        """Change what is asked next; tell whether there is anything else to try.

        The caller raises: a frame that an error passed through and that holds it would
        keep the whole run in memory until Python's collector comes by.

        Raises:
            ContextOverflow: the error itself; nothing is left to leave out.
        """
        if isinstance(error, ContextOverflow) and not plan.shortened:
            plan.shortened = True
            plan.request = self._shortened(plan.request, error)
            return True
        return self._waits_after(plan, error) or self._next_choice(plan.choices, error)

    def _shortened(
        self, request: CompletionRequest, overflow: ContextOverflow
    ) -> CompletionRequest:
        """Return the newest whole groups of a prompt that was too long.

        Raises:
            ContextOverflow: nothing is left to leave out.
        """
        wanted = weighed_tokens(request)
        fits = overflow.context_tokens
        if fits and (overflow.prompt_tokens or 0) > fits:
            # In our tokens, of which some are estimates.
            fits = int(wanted * fits / (overflow.prompt_tokens or 1))
        if fits:
            fits = min(fits, int(wanted * _SURELY_SHORTER))
        logger.warning("prompt shortened", extra={"task_id": self._task.id})
        try:
            return fitted(request, fits or int(wanted * _SHORTENED_TO))
        except ContextOverflow:
            raise overflow from None

    def _waits_after(self, plan: Plan, error: LLMError) -> bool:
        """Whether to ask the same model again, once its gate lets us."""
        is_last = len(plan.choices) == 1
        if not is_last and error.code in self._config.fallback_on:
            return False
        if isinstance(error, LLMUnavailable):
            waits = plan.choices[0].endpoint.when_unavailable == "wait"
        else:
            waits = isinstance(error, RateLimited)
        return waits and error.was_asked

    def _next_choice(self, choices: list[Choice], error: LLMError) -> bool:
        if len(choices) == 1 or error.code not in self._config.fallback_on:
            return False
        failed = choices.pop(0)
        logger.warning(
            "model failed; asking the next one",
            extra={
                "task_id": self._task.id,
                "code": error.code,
                "model": failed.model,
                "next": choices[0].model,
            },
        )
        return True

    async def _ask(
        self, choice: Choice, request: CompletionRequest, how: How
    ) -> Answered:
        request = await fit_for(choice, request)
        provider = choice.endpoint.provider
        marking = how.around()
        asked = Call(choice=choice, request=request, sizes=self._sizes, marking=marking)
        async with Calling(self._calls, asked, owes=how.owes) as call:
            async with marking as heard:
                call.was_asked = True
                completion = await whole(provider, request, heard)
            call.completion = completion  # to be paid, fit for use or not
            call.completion = await self._checked(call, completion)
        return call.answered or call.answer(call.completion)

    async def _pieces(
        self, choice: Choice, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        request = await fit_for(choice, request)
        asked = Call(choice=choice, request=request, sizes=self._sizes)
        async with Calling(self._calls, asked, owes=False) as call:
            call.was_asked = True
            async for piece in choice.endpoint.provider.stream(request):
                if isinstance(piece, Completion):
                    call.completion = piece
                else:
                    yield piece
                del piece  # errors of the next are reported with variables
            if call.completion is None:
                raise RuntimeError("a provider ends with its completion or raises")
            call.completion = await self._checked(call, call.completion)
        yield call.completion

    async def _checked(self, call: Call, completion: Completion) -> Completion:
        """Return the completion, unless its prompt is known to have been cut.

        Raises:
            ContextOverflow: the endpoint has read only a part of the prompt.
        """
        choice = call.choice
        context = await choice.endpoint.context_of(choice.model)
        sent = call.prompt_tokens if context is None else weighed_tokens(call.request)
        fell = self._readings.fell(call.request, completion)
        cut = was_cut(call.request, completion, context, sent=sent)
        if not (fell or cut):
            return completion
        if cut and context is not None:
            raise ContextOverflow(
                f"{choice.endpoint.base_url} has silently cut a prompt of about {sent}"
                f" tokens to the {context} tokens of model {choice.model!r}; shorten it"
                " or raise the context length"
                " (Ollama: OLLAMA_CONTEXT_LENGTH=65536 ollama serve)",
                context_tokens=context,
                endpoint=choice.endpoint.base_url,
            )
        logger.warning(
            "endpoint seems to have cut the prompt; set its context_tokens",
            extra={"task_id": self._task.id, "model": choice.model, "sent": sent},
        )
        return completion.model_copy(update={"context_truncated": True})
