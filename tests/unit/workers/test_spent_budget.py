"""One decision about a spent budget counts once, however many calls were refused."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from orchestrator.journal import Action, Decision, Journal, Step, call_key
from orchestrator.store import Lease
from orchestrator.task import Task
from workers.errors import BudgetExceeded
from workers.run import Run
from workers.spent_budget import SpentBudget


def budget(action: Action) -> SpentBudget:
    run = Run(Task(agent_name="a"), lease=Lease("default", "t", 1, "w"))
    decision = Decision(key=call_key("budget:1"), action=action)
    return SpentBudget(run, Journal(decisions=(decision,)))


async def slowly(_: Step) -> None:
    await asyncio.sleep(0)


async def test_calls_that_are_refused_together_share_one_allowance() -> None:
    spent = budget(Action.RUN)
    refused = BudgetExceeded("spent")
    asked = (spent.decided(refused, times=1, record=slowly) for _ in range(3))
    await asyncio.gather(*asked)
    await spent.decided(refused, times=1, record=slowly)  # refused before, heard late
    assert spent.times == 2


async def test_all_of_them_are_told_to_answer_with_what_there_is() -> None:
    spent = budget(Action.DONE)
    asked = (
        spent.decided(BudgetExceeded("spent"), times=1, record=slowly) for _ in range(3)
    )
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in told] == [BudgetExceeded] * 3
    with pytest.raises(BudgetExceeded):
        await spent.decided(BudgetExceeded("spent"), times=1, record=slowly)


@pytest.mark.parametrize(("action", "allowed"), [(Action.RUN, 2), (Action.DONE, 1)])
async def test_a_later_attempt_may_spend_what_this_one_may(
    action: Action, allowed: int
) -> None:
    steps: list[Step] = []

    async def record(step: Step) -> None:
        steps.append(step)

    spent = budget(action)
    with suppress(BudgetExceeded):
        await spent.decided(BudgetExceeded("spent"), times=1, record=record)
    later = SpentBudget(Run(Task(agent_name="a")), Journal(steps=tuple(steps)))
    assert (spent.allowed, later.allowed) == (allowed, allowed)
