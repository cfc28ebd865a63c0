"""What a run asks its completions of, so that its journal can mark the very call.

The waits before a call (a gate, a budget) lie outside of the mark.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from workers.llm.provider import Completion, CompletionRequest, LLMProvider

Around = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what encloses one request to an endpoint; used anew for each."""


class RunProvider(Protocol):
    """Answers the completions of one run."""

    async def complete(
        self, request: CompletionRequest, *, around: Around
    ) -> Completion:
        """Return one completion; each request that is sent happens inside `around`.

        Raises:
            GateClosed: the wait is long; nothing was sent since the last failure.
            LLMError: as that of an `LLMProvider`.
        """
        ...

    def for_tool(self, *, may_park: bool) -> LLMProvider:
        """Return what a tool's own completions ask.

        Args:
            may_park: Whether a long wait may end the attempt, and with it the call.
        """
        ...


class UngovernedProvider:
    """A `RunProvider` without gate and budget."""

    def __init__(self, provider: LLMProvider) -> None:
        self._provider = provider

    async def complete(
        self, request: CompletionRequest, *, around: Around
    ) -> Completion:
        async with around():
            return await self._provider.complete(request)

    def for_tool(self, *, may_park: bool) -> LLMProvider:  # noqa: ARG002
        return self._provider
