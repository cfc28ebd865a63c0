"""What encloses one call of a run: its begin before the model, its end after it.

Knows neither gates nor budgets; who begins and ends a call does.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Protocol

from orchestrator.dues import Admitted
from workers.llm.governed_call import Call


class Passed(NamedTuple):
    """What a call holds from its begin to its end."""

    gate: str
    """The one before its model, also where it was not asked."""
    admitted: Admitted


class CallEnds(Protocol):
    """Begins and ends calls."""

    async def begin(self, call: Call) -> Passed:
        """Reserve what a call may take and pass its gate."""
        ...

    async def end(
        self, call: Call, passed: Passed, error: BaseException | None, *, owes: bool
    ) -> None:
        """Leave the gate and settle, or owe both to who records the answer."""
        ...


class Calling:
    """Encloses a call: whatever happens, it is ended as it was begun.

    No generator, which would cost as much as what it does for most calls.
    """

    def __init__(self, provider: CallEnds, call: Call, *, owes: bool) -> None:
        self._provider = provider
        self._call = call
        self._owes = owes
        self._passed: Passed | None = None

    async def __aenter__(self) -> Call:
        self._passed = await self._provider.begin(self._call)
        return self._call

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._passed is not None:
            await self._provider.end(self._call, self._passed, error, owes=self._owes)
