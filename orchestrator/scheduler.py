"""Submits the tasks of due schedules; any number of schedulers may run at once.

A tick's task has an id of its own, so that it is accepted once, and the schedule moves
on by compare-and-set.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from conversations.errors import RedactionFailed
from orchestrator.errors import StoreFull, StoreReadOnly, StoreUnavailable, StoreUnfit
from orchestrator.schedule import DueSchedule, plan
from orchestrator.store import Creation, Doorbell, TaskStore

logger = logging.getLogger(__name__)


_AT_ONCE: Final = 100
"""Schedules between two sweeps of what else is due."""


class Submitted(NamedTuple):
    """What was submitted."""

    doorbells: tuple[Doorbell, ...]
    more: bool
    """As many schedules were due as are served at once, and nobody else serves them."""


async def submit_due(store: TaskStore) -> Submitted:
    """Submit what is due.

    Raises:
        StoreUnavailable: the store did not answer; a later call repeats.
    """
    bells: list[Doorbell] = []
    found = await store.due_schedules(limit=_AT_ONCE)
    for due in found:
        try:
            rung, was_first = await _submit(store, due)
        except StoreUnavailable as exc:
            if _concerns_all(exc):
                if not bells:
                    raise
                # Who was submitted counts as rung; a later call meets the others again.
                return Submitted(tuple(bells), more=False)
            # What stands in the way of one must not keep the others from going on.
            _tell(due, exc)
            continue
        bells += rung
        if not was_first:
            # Another scheduler is at the same: side by side, each would do all of it.
            return Submitted(tuple(bells), more=False)
    return Submitted(tuple(bells), more=len(found) == _AT_ONCE)


async def _submit(store: TaskStore, due: DueSchedule) -> tuple[list[Doorbell], bool]:
    """Return the doorbells, and whether no other scheduler was faster."""
    planned = plan(due)
    tasks = [due.schedule.task_at(tick) for tick in planned.ticks]
    answers: list[Creation | Exception] = []
    try:
        await store.create(tasks, answers=answers)
    except RedactionFailed as exc:
        answers.append(exc)
    except StoreUnavailable as exc:
        if _concerns_all(exc):
            raise
        answers.append(exc)  # it lasts: one that stayed due would keep others waiting
    for answer in answers:
        if isinstance(answer, StoreUnfit):
            raise answer  # the tick is missed, not refused
        if isinstance(answer, Exception):
            _tell(due, answer)
    was_first = await store.advance_schedule(due, next_at=planned.next_at)
    made = [answer for answer in answers if isinstance(answer, Creation)]
    return [bell for creation in made for bell in creation.doorbells], was_first


def _concerns_all(error: StoreUnavailable) -> bool:
    return error.may_pass or isinstance(error, StoreFull | StoreReadOnly | StoreUnfit)


def _tell(due: DueSchedule, error: Exception) -> None:
    facts = {"schedule": due.schedule.id, "error": str(error)}
    logger.warning("tick not submitted", extra=facts)
