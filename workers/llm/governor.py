"""Asks the endpoints for a run: which model, through which gate, within which budget.

A `GovernedProvider` is a run's own; the `Governor` is the process's and knows no run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from secrets import token_hex
from time import monotonic

from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Amount
from orchestrator.dues import Dues, Payee
from orchestrator.gate import Caller, CallOutcome, Departure
from orchestrator.task import Task, Usage
from workers.errors import (
    ContextOverflow,
    LLMError,
    LLMUnavailable,
    RateLimited,
)
from workers.insistence import STORE_PATIENCE_SECONDS, Insistence
from workers.llm.allowance import Allowance
from workers.llm.calling import Calling, Passed
from workers.llm.context_guard import Readings, fitted, was_cut
from workers.llm.endpoints import Endpoints
from workers.llm.gatekeeper import Gatekeeper, Passage
from workers.llm.governed_call import (
    Call,
    Choice,
    How,
    Plan,
    choices_of,
    departure_after,
    dues_of,
    fit_for,
)
from workers.llm.prompt_size import PromptSizes
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.run_provider import Answered, Around, whole

logger = logging.getLogger(__name__)

_FIRST_ANSWER_TOKENS = 256
"""Taken for an answer's length before one was seen."""
_SURELY_SHORTER = 0.9
"""Of a prompt that our estimate would have let through."""
_SHORTENED_TO = 0.5
"""Of a prompt that the endpoint refused without saying what fits."""


class Governor:
    """The rules of a process; makes the provider of each run."""

    def __init__(
        self,
        endpoints: Endpoints,
        gatekeeper: Gatekeeper,
        allowance: Allowance,
        payee: Payee,
    ) -> None:
        self.endpoints = endpoints
        self.gatekeeper = gatekeeper
        self.allowance = allowance
        self._payee = payee
        self._insist = Insistence(patience_seconds=STORE_PATIENCE_SECONDS)
        self._answer_tokens: dict[str, float] = {}

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

    def answer_tokens(self, gate: str, most: int | None) -> int:
        """Return how long an answer is likely to be."""
        usual = self._answer_tokens.get(gate, _FIRST_ANSWER_TOKENS)
        return int(min(usual, most or usual))

    def learn(self, gate: str, usage: Usage) -> None:
        """Note how long an answer was."""
        usual = self._answer_tokens.get(gate, usage.output_tokens)
        self._answer_tokens[gate] = usual + (usage.output_tokens - usual) / 8

    async def pay(self, dues: Dues) -> None:
        """Pay; a store that refuses is asked again while the run goes on."""
        if not dues.are_none:
            await self._insist.see_to(partial(self._payee.pay, dues))

    def pay_meanwhile(self, dues: Dues) -> None:
        """Pay without waiting for it."""
        self._insist.meanwhile(partial(self._payee.pay, dues))

    async def aclose(self) -> None:
        """Close what it uses."""
        await self._insist.settle()
        await self.allowance.aclose()
        await self.gatekeeper.aclose()
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
        self._budget_times = 1
        self._readings = Readings()
        self._sizes = PromptSizes()
        self._waited_seconds = 0.0
        """At gates, since the last completion."""

    @property
    def asks_at_once(self) -> bool:
        governor, config = self._governor, self._config
        endpoint = governor.endpoints.get(config.endpoint)
        model = config.model or endpoint.model
        return not governor.allowance.bounds(self._task, config) and (
            governor.gatekeeper.find_open(endpoint, model) is not None
        )

    def pay_now(self, answered: Answered) -> None:
        if answered.dues is not None:
            self._governor.pay_meanwhile(answered.dues)

    def allow_budget(self, times: int) -> None:
        self._budget_times = times

    def for_tool(self, *, may_park: bool) -> GovernedProvider:
        may_park = may_park and self._may_park
        inner = self._governor.for_run(self._task, self._config, may_park=may_park)
        inner.allow_budget(self._budget_times)
        return inner

    async def answer(self, request: CompletionRequest, *, around: Around) -> Answered:
        how = How(around=around, owes=self._may_owe)
        return await self._whole(request, how)

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
            except LLMError as exc:
                if begun:
                    raise
                self._replan(plan, exc)
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
                self._replan(plan, exc)

    def _plan(self, request: CompletionRequest) -> Plan:
        choices = choices_of(self._governor.endpoints, self._config, request)
        return Plan(choices=list(choices), request=request)

    def _replan(self, plan: Plan, error: LLMError) -> None:
        """Change what is asked next.

        Raises:
            LLMError: the error itself; there is nothing else to try.
        """
        if isinstance(error, ContextOverflow) and not plan.shortened:
            plan.shortened = True
            plan.request = self._shortened(plan.request, error)
        elif not self._waits_after(plan, error):
            self._next_choice(plan.choices, error)

    def _shortened(
        self, request: CompletionRequest, overflow: ContextOverflow
    ) -> CompletionRequest:
        """Return the newest whole groups of a prompt that was too long.

        Raises:
            ContextOverflow: nothing is left to leave out.
        """
        wanted = self._sizes.tokens(request)
        fits = overflow.context_tokens
        if fits and (overflow.prompt_tokens or 0) > fits:
            # In our tokens, which are estimates.
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

    def _next_choice(self, choices: list[Choice], error: LLMError) -> None:
        if len(choices) == 1 or error.code not in self._config.fallback_on:
            raise error
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

    async def _ask(
        self, choice: Choice, request: CompletionRequest, how: How
    ) -> Answered:
        request = await fit_for(choice, request)
        provider = choice.endpoint.provider
        asked = Call(choice=choice, request=request, sizes=self._sizes)
        async with Calling(self, asked, owes=how.owes) as call:
            async with how.around() as heard:
                completion = await whole(provider, request, heard)
            call.completion = completion  # to be paid, fit for use or not
            call.completion = await self._checked(call, completion)
        return call.answered or call.answer(call.completion)

    async def _pieces(
        self, choice: Choice, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        request = await fit_for(choice, request)
        asked = Call(choice=choice, request=request, sizes=self._sizes)
        async with Calling(self, asked, owes=False) as call:
            async for piece in choice.endpoint.provider.stream(request):
                if isinstance(piece, Completion):
                    call.completion = piece
                else:
                    yield piece
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
        sent = call.prompt_tokens
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

    async def begin(self, call: Call) -> Passed:
        governor = self._governor
        reservation = await governor.allowance.reserve(
            self._task,
            self._config,
            prompt_tokens=call.prompt_tokens,
            output_tokens=call.request.max_output_tokens,
            price=call.price,
            times=self._budget_times,
        )
        entering = monotonic()
        try:
            passage = await self._enter(call)
        except BaseException:
            await governor.pay(Dues(reservation=reservation, amount=Amount()))
            raise
        self._waited_seconds += monotonic() - entering
        return Passed(passage, reservation)

    async def end(
        self, call: Call, passed: Passed, error: BaseException | None, *, owes: bool
    ) -> None:
        departure = Departure(outcome=CallOutcome.UNKNOWN)
        if isinstance(error, LLMError):
            departure = departure_after(error)
        if call.completion is not None:  # be it that it will not do
            departure = self._taken(call, passed.passage.gate)
        dues = dues_of(call, passed.passage.permit, departure, passed.reservation)
        await self._governor.gatekeeper.leave(passed.passage, departure)
        if owes and error is None and call.completion is not None:
            call.answered = call.answer(call.completion, dues)
        else:
            await self._governor.pay(dues)

    async def _enter(self, call: Call) -> Passage:
        """Pass the gate; one that is not asked costs nothing."""
        endpoint, model = call.choice.endpoint, call.choice.model
        keeper = self._governor.gatekeeper
        return keeper.find_open(endpoint, model) or await keeper.enter(
            endpoint, model, self._caller(call), may_park=self._may_park
        )

    def _taken(self, call: Call, gate: str) -> Departure:
        """Learn from an answer; say in it what it cost and how long it waited."""
        usage = call.usage()
        self._governor.learn(gate, usage)
        if call.completion is None:
            raise RuntimeError("a call that was taken has its completion")
        facts = {
            "cost_micros": call.price.micros(usage),
            "gate_wait_seconds": round(self._waited_seconds, 3),
        }
        if any(facts.values()):
            call.completion = call.completion.model_copy(update=facts)
        self._waited_seconds = 0.0
        return Departure(
            outcome=CallOutcome.ANSWERED,
            tokens=usage.total_tokens,
            wait_seconds=call.completion.endpoint_wait_seconds,
        )

    def _caller(self, call: Call) -> Caller:
        gate = call.choice.endpoint.gate_of(call.choice.model)
        answer = self._governor.answer_tokens(gate, call.request.max_output_tokens)
        return Caller(
            token=token_hex(16),
            tenant=self._task.tenant,
            task_id=self._task.id,
            priority=self._task.priority,
            tokens=call.prompt_tokens + answer,
        )
