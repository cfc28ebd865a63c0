"""What a run asks its completions of, so that its journal can mark the very call.

The waits before a call (a gate, a budget) lie outside of the mark; a call that is
admitted may be marked in the same change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Protocol

from orchestrator.dues import Admission, Dues, Needs
from workers.llm.prompt_size import prompt_tokens
from workers.llm.provider import Completion, CompletionRequest, LLMProvider

Heard = Callable[[str], None]
"""Takes the pieces of an answer as they come."""


class Marking(Protocol):
    """Encloses one request to an endpoint.

    It gives who is to hear the answer as it comes, if anybody is.
    """

    def admit(self, needs: Needs) -> Awaitable[Admission | None]:
        """Let the request begin, and mark it in the same change.

        None where it is not marked by this: its needs are met elsewhere.

        Raises:
            StoreUnavailable: nothing is known; ask again.
        """
        ...

    async def __aenter__(self) -> Heard | None:
        """Begin the request; it is marked at the latest now."""
        ...

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End it."""
        ...


Around = Callable[[], Marking]
"""Makes what encloses one request; used anew for each."""


class Unmarked:
    """The `Marking` of a request that no journal marks."""

    async def admit(self, needs: Needs) -> Admission | None:
        """Mark nothing."""

    async def __aenter__(self) -> Heard | None:
        return None

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Nothing was begun."""


class Answered(NamedTuple):
    """A completion, and what it owes until its step is recorded."""

    completion: Completion
    prompt_tokens: int
    """Of what was sent, roughly."""
    dues: Dues | None = None


class RunProvider(Protocol):
    """Answers the completions of one run."""

    async def answer(self, request: CompletionRequest, *, around: Around) -> Answered:
        """Return one completion; each request that is sent happens inside `around`.

        Where somebody is to hear it, the answer is streamed, and every piece of its
        text is told; a request that is sent again tells its text from the beginning.

        Raises:
            GateClosed: the wait is long; nothing was sent since the last failure.
            LLMError: as that of an `LLMProvider`.
        """
        ...

    @property
    def asks_at_once(self) -> bool:
        """Whether no gate and no budget stands before the next request, as it seems."""
        ...

    def pay_now(self, answered: Answered) -> None:
        """Pay what an answer owes that is not recorded; the run goes on meanwhile."""
        ...

    def allow_budget(self, times: int) -> None:
        """Let the run spend each of its budgets so often."""
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

    async def answer(self, request: CompletionRequest, *, around: Around) -> Answered:
        async with around() as heard:
            completion = await whole(self._provider, request, heard)
        return Answered(completion=completion, prompt_tokens=prompt_tokens(request))

    @property
    def asks_at_once(self) -> bool:
        return True

    def pay_now(self, answered: Answered) -> None:
        """Nothing is owed."""

    def allow_budget(self, times: int) -> None:
        """Nothing is bounded."""

    def for_tool(self, *, may_park: bool) -> LLMProvider:  # noqa: ARG002
        return self._provider


def whole(
    provider: LLMProvider, request: CompletionRequest, heard: Heard | None
) -> Awaitable[Completion]:
    """Return a completion; it is streamed where somebody hears its text on the way.

    Raises:
        LLMError: the endpoint's error.
    """
    if heard is None:
        return provider.complete(request)
    return _heard(provider, request, heard)


async def _heard(
    provider: LLMProvider, request: CompletionRequest, heard: Heard
) -> Completion:
    completion: Completion | None = None
    async for piece in provider.stream(request):
        if isinstance(piece, Completion):
            completion = piece
        elif piece.text:
            heard(piece.text)
        del piece  # errors of the next are reported with variables
    if completion is None:
        raise RuntimeError("a provider ends with its completion or raises")
    return completion
