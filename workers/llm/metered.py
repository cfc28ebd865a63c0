"""A provider that counts what is asked through it, for completions inside a tool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cached_property

from orchestrator.task import Usage
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    LLMProvider,
    TextDelta,
)

_NOTHING = Usage()


class MeteredProvider:
    """Another provider, with a default model and a sum of the tokens used."""

    def __init__(
        self, provider: Callable[[], LLMProvider], *, model: str | None
    ) -> None:
        """Count what is asked of another, which is made when it is asked: rarely."""
        self._make = provider
        self._model = model
        self.usage = _NOTHING
        """Tokens of the completions so far, as the endpoint counted them."""
        self.cost_micros = 0
        """What they cost, in millionths."""
        self.waited_seconds = 0.0
        """How long they waited at the gates."""

    @cached_property
    def _provider(self) -> LLMProvider:
        return self._make()

    async def complete(self, request: CompletionRequest) -> Completion:
        completion = await self._provider.complete(self._with_model(request))
        self._count(completion)
        return completion

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncIterator[TextDelta | Completion]:
        async for piece in self._provider.stream(self._with_model(request)):
            if isinstance(piece, Completion):
                self._count(piece)
            yield piece
            del piece  # errors of the next are reported with variables

    async def aclose(self) -> None:
        """Leave the other provider open; it has another owner."""

    def _with_model(self, request: CompletionRequest) -> CompletionRequest:
        if request.model is not None or self._model is None:
            return request
        return request.model_copy(update={"model": self._model})

    def _count(self, completion: Completion) -> None:
        self.usage += completion.usage or _NOTHING
        self.cost_micros += completion.cost_micros
        self.waited_seconds += completion.gate_wait_seconds
