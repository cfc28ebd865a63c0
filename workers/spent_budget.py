"""A run whose budget is spent waits for a person, where its agent is configured so.

Each allowance is a step of the journal, so that later attempts know how often the
budget was given again, and that an answer was asked for instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from orchestrator.journal import Action, Decision, Journal, Step, StepKind, call_key
from orchestrator.task import AwaitedCall
from workers.errors import AgentFailed, BudgetExceeded
from workers.run import Run

_TOOL: Final = "budget"

Record = Callable[[Step], Awaitable[None]]


class SpentBudget:
    """What people have decided about one run's budget, and the next such wait."""

    def __init__(self, run: Run, journal: Journal) -> None:
        self._run = run
        self._decisions = {each.key: each for each in journal.decisions}
        self.times = 1
        """How often people were asked, and once more."""
        self._wraps_up = False
        steps = {step.key: step for step in journal.steps}
        while steps and (step := steps.get(self._key)) is not None:
            self._obey(Action(str(step.outcome)))

    @property
    def allowed(self) -> int:
        """How often this run may spend each of its budgets."""
        return self.times - self._wraps_up

    async def decided(
        self, spent: BudgetExceeded, *, times: int, record: Record
    ) -> None:
        """Return when more may be spent; `record` is given the decision that says so.

        `times` is what was allowed when the call was refused: what a call beside it has
        been given since is its own as well, and is given once.

        Raises:
            BudgetExceeded: the run is to answer with what it has.
            AgentFailed: the task is to end.
        """
        if self._wraps_up or self._run.lease is None:
            raise spent
        if times != self.times:
            return
        decision = self._decisions.get(self._key)
        if decision is None:
            await self._run.park(
                AwaitedCall(
                    call_id=self._call_id,
                    reason="budget_spent",
                    tool=_TOOL,
                    arguments={"message": str(spent)},
                )
            )
        elif decision.action is Action.FAIL:
            raise _ended(spent, decision)
        else:
            await record(_step(decision, attempt=self._run.task.attempt))
            if times == self.times:
                self._obey(decision.action)
            if self._wraps_up:
                raise spent

    @property
    def _call_id(self) -> str:
        return f"{_TOOL}:{self.times}"

    @property
    def _key(self) -> str:
        return call_key(self._call_id)

    def _obey(self, action: Action) -> None:
        self.times += 1
        self._wraps_up = self._wraps_up or action is Action.DONE


def _step(decision: Decision, *, attempt: int) -> Step:
    return Step(
        key=decision.key,
        kind=StepKind.CUSTOM,
        name=_TOOL,
        outcome=decision.action.value,
        attempt=attempt,
    )


def _ended(spent: BudgetExceeded, decision: Decision) -> AgentFailed:
    note = f" ({decision.note})" if decision.note else ""
    return AgentFailed(
        f"{spent}; the decision was to end the task{note}", code=spent.code
    )
