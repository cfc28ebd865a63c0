"""A provider that counts what is asked through it, for completions inside a tool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Self

from orchestrator.task import Usage
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    LLMProvider,
    TextDelta,
)
from workers.over import refused

_NOTHING = Usage()


class MeteredProvider:
    """Another provider, with a default model and a sum of the tokens used.

    Within `with` it serves one call of a tool: what that has left under way in tasks of
    its own ends with it.
    """

    def __init__(
        self,
        provider: Callable[[], LLMProvider],
        *,
        model: str | None,
        over: Callable[[], bool] = bool,
    ) -> None:
        """Count what is asked of another, which is made when it is asked: rarely.

        Once `over` says so, nothing more is asked.
        """
        self._make = provider
        self._model = model
        self._is_over = over
        self._asking: list[asyncio.Task[Any] | None] = []
        """One asks twice where the loop has yet to close a stream that it has left."""
        self._has_ended = False
        self.usage = _NOTHING
        """Tokens of the completions so far, as the endpoint counted them."""
        self.cost_micros = 0
        """What they cost, in millionths."""
        self.waited_seconds = 0.0
        """How long they waited at the gates."""

    @cached_property
    def _provider(self) -> LLMProvider:
        return self._make()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        for task in {*self._asking}:
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    @asynccontextmanager
    async def _asked(self) -> AsyncGenerator[None]:
        """Enclose what is asked.

        Raises:
            CancelledError: the tool's call has ended, or its run is over.
        """
        if self._has_ended or self._is_over():
            await refused("the tool's call")
        current = asyncio.current_task()
        self._asking.append(current)
        try:
            yield
        finally:
            self._asking.remove(current)

    async def complete(self, request: CompletionRequest) -> Completion:
        async with self._asked():
            completion = await self._provider.complete(self._with_model(request))
        self._count(completion)
        return completion

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncIterator[TextDelta | Completion]:
        async with self._asked():
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
