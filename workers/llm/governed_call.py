"""What a run asks next, and one call from its reservation to its settlement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import NamedTuple

from conversations.window import estimate_tokens
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Reservation
from orchestrator.dues import Dues
from orchestrator.gate import CallOutcome, Departure, Permit
from orchestrator.task import Usage
from workers.errors import (
    CompletionRefused,
    EmptyCompletion,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    RateLimited,
    StreamTruncated,
)
from workers.llm.allowance import amount_of
from workers.llm.context_guard import fitted
from workers.llm.endpoints import Endpoints, Price, ServedEndpoint
from workers.llm.prompt_size import PromptSizes
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.run_provider import Answered, Around, Marking, Unmarked


class Choice(NamedTuple):
    """A model that may be asked."""

    endpoint: ServedEndpoint
    model: str


@dataclass(kw_only=True)
class Plan:
    """What is asked next; there is always a choice."""

    choices: list[Choice]
    request: CompletionRequest
    shortened: bool = False


class How(NamedTuple):
    """In which way a run asks."""

    around: Around = Unmarked
    owes: bool = False


@dataclass(kw_only=True)
class Call:
    """One call, from reservation to settlement."""

    choice: Choice
    request: CompletionRequest
    sizes: PromptSizes
    marking: Marking = field(default_factory=Unmarked)
    was_asked: bool = False
    """Whether anything may have been sent for it."""
    completion: Completion | None = None
    lost_usage: Usage | None = None
    """Of an answer that could not be used, where the endpoint counted it."""
    answered: Answered | None = None
    """There when its dues are left to who records it."""

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self.choice.endpoint.price_of(self.choice.model)

    @cached_property
    def prompt_tokens(self) -> int:
        """Of its request, roughly."""
        return self.sizes.tokens(self.request)

    def answer(self, completion: Completion, dues: Dues | None = None) -> Answered:
        """Return what the run is given."""
        size = self.prompt_tokens
        return Answered(completion=completion, prompt_tokens=size, dues=dues)

    def usage(self) -> Usage:
        """What it took; estimated where the endpoint did not count."""
        if self.completion is None:
            return self.lost_usage or Usage()
        counted = self.completion.usage or Usage()
        if counted.input_tokens and counted.output_tokens:
            return counted
        estimate = {
            "input_tokens": counted.input_tokens or self.prompt_tokens,
            "output_tokens": counted.output_tokens
            or estimate_tokens(self.completion.message),
        }
        return counted.model_copy(update=estimate)


def dues_of(
    call: Call,
    permit: Permit | None,
    departure: Departure,
    reservation: Reservation | None,
) -> Dues:
    """Return what a call owes; a call of unknown outcome keeps all that it reserved."""
    if reservation is None or departure.tokens is None:
        return Dues(permit, departure)
    return Dues(permit, departure, reservation, amount_of(call.usage(), call.price))


def departure_after(error: LLMError) -> Departure:
    """Return what an error says of the endpoint; tokens only where none were taken."""
    if isinstance(error, RateLimited):
        return Departure(
            outcome=CallOutcome.REFUSED,
            tokens=0,
            wait_seconds=error.retry_after_seconds,
        )
    if isinstance(error, LLMUnavailable):
        return Departure(
            outcome=CallOutcome.UNAVAILABLE,
            tokens=0,
            wait_seconds=error.retry_after_seconds,
        )
    if _may_be_paid(error):
        used = None if error.usage is None else error.usage.total_tokens
        return Departure(outcome=CallOutcome.ANSWERED, tokens=used)
    return Departure(outcome=CallOutcome.ANSWERED, tokens=0)


def _may_be_paid(error: LLMError) -> bool:
    """Whether a model has answered, be it with nothing or with its refusal."""
    if isinstance(error, CompletionRefused):
        return error.status == HTTPStatus.OK  # else a filter has kept the prompt back
    return isinstance(error, MalformedCompletion | EmptyCompletion | StreamTruncated)


def choices_of(
    endpoints: Endpoints, config: AgentConfig, request: CompletionRequest
) -> Iterator[Choice]:
    """Return the models that an agent's completion may ask, in order."""
    named = (config.endpoint, request.model)
    others = [(other.endpoint, other.model) for other in config.fallback]
    for name, model in (named, *others):
        endpoint = endpoints.get(name)
        yield Choice(endpoint=endpoint, model=model or endpoint.model)


async def fit_for(choice: Choice, request: CompletionRequest) -> CompletionRequest:
    """Return the request to a model, within the context that it is known to have."""
    if request.model != choice.model:
        request = request.model_copy(update={"model": choice.model})
    context = await choice.endpoint.context_of(choice.model)
    return request if context is None else fitted(request, context)
