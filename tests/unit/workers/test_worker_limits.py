"""What a worker's command line says of limits holds for runs, not for messages."""

from __future__ import annotations

from math import inf, nan
from types import SimpleNamespace

import pytest

from orchestrator.errors import InvalidSettings
from orchestrator.task import Task
from workers.endings import forced_ending
from workers.errors import SoftTimeLimitReached
from workers.executor_parts import ExecutorLimits
from workers.run import Interrupt, Run
from workers.tasks import run
from workers.worker_limits import BACKSTOP_SECONDS, WorkerLimits, take_limits


@pytest.mark.parametrize(
    ("soft", "hard", "left"),
    [(None, None, None), (5.0, None, None), (5.0, 9.0, 9.0 + BACKSTOP_SECONDS)],
)
def test_celery_is_left_a_backstop_behind_the_hard_limit_only(
    soft: float | None, hard: float | None, left: float | None
) -> None:
    worker = SimpleNamespace(soft_time_limit=soft, time_limit=hard)
    assert take_limits(worker) == WorkerLimits(soft, hard)
    assert worker.soft_time_limit is None
    assert worker.time_limit == left


@pytest.mark.parametrize("seconds", [-1.0, nan, inf])
@pytest.mark.parametrize("option", ["--soft-time-limit", "--time-limit"])
def test_a_limit_that_is_none_is_refused(option: str, seconds: float) -> None:
    """Below zero each task was `timed_out`; with NaN each began again without end."""
    worker = SimpleNamespace(soft_time_limit=None, time_limit=None)
    setattr(worker, option.removeprefix("--").replace("-", "_"), seconds)
    with pytest.raises(InvalidSettings, match=f"^{option}: .*; 0 is no limit"):
        take_limits(worker)


def test_zero_is_no_limit_as_it_is_celerys() -> None:
    worker = SimpleNamespace(soft_time_limit=0.0, time_limit=0.0)
    assert take_limits(worker) == WorkerLimits(None, None)


@pytest.mark.parametrize(
    ("reason", "here", "remedy"),
    [
        (Interrupt.HARD_LIMIT, ExecutorLimits(), "raise time_limit"),
        (
            Interrupt.HARD_LIMIT,
            ExecutorLimits(time_limit_seconds=4),
            "raise --time-limit of its worker",
        ),
        (Interrupt.SOFT_LIMIT, ExecutorLimits(), "raise soft_time_limit"),
        (
            Interrupt.SOFT_LIMIT,
            ExecutorLimits(soft_time_limit_seconds=4),
            "raise --soft-time-limit of its worker",
        ),
    ],
)
def test_who_is_cut_off_is_told_which_limit_to_raise(
    reason: Interrupt, here: ExecutorLimits, remedy: str
) -> None:
    task = Task(agent_name="a", soft_time_limit_seconds=10, time_limit_seconds=20)
    run = Run(here.bound(task), recorded=task)
    run.interrupt_reason = reason
    ending = forced_ending(run, None)
    assert ending is not None
    assert ending.failure is not None
    assert remedy in ending.failure.message


def test_an_agent_that_passes_the_soft_limit_on_ends_with_the_remedy() -> None:
    """What tells an agent to answer tells whoever reads the record nothing."""
    run = Run(Task(agent_name="a", soft_time_limit_seconds=10))
    run.interrupt_reason = Interrupt.SOFT_LIMIT
    ending = forced_ending(run, SoftTimeLimitReached("answer with what there is"))
    assert ending is not None
    assert ending.failure is not None
    assert ending.failure.code == "soft_time_limit"
    assert "raise soft_time_limit" in ending.failure.message


@pytest.mark.parametrize("soft", [None, 300.0])
def test_a_hard_limit_lowers_the_soft_one_that_a_run_counts_on(
    soft: float | None,
) -> None:
    worker = SimpleNamespace(soft_time_limit=soft, time_limit=20.0)
    taken = take_limits(worker)
    limits = ExecutorLimits(
        soft_time_limit_seconds=taken.soft, time_limit_seconds=taken.hard
    )
    task = Task(agent_name="a", soft_time_limit_seconds=300, time_limit_seconds=330)
    assert Run(limits.bound(task)).remaining_seconds() <= 20


@pytest.mark.parametrize(
    ("own", "here", "bound"),
    [
        ((10.0, 20.0), (None, None), (10.0, 20.0)),
        ((10.0, 20.0), (5.0, None), (5.0, 20.0)),
        ((10.0, 20.0), (15.0, 15.0), (10.0, 15.0)),
        ((None, None), (5.0, 6.0), (5.0, 6.0)),
    ],
)
def test_a_run_has_the_shorter_of_its_own_limits_and_its_workers(
    own: tuple[float | None, float | None],
    here: tuple[float | None, float | None],
    bound: tuple[float | None, float | None],
) -> None:
    limits = ExecutorLimits(soft_time_limit_seconds=here[0], time_limit_seconds=here[1])
    task = limits.bound(
        Task(
            agent_name="agent",
            soft_time_limit_seconds=own[0],
            time_limit_seconds=own[1],
        )
    )
    assert (task.soft_time_limit_seconds, task.time_limit_seconds) == bound


@pytest.mark.parametrize("name", ["soft_time_limit", "time_limit"])
def test_limits_by_remote_control_are_refused_with_the_remedy(name: str) -> None:
    """Celery would then cut runs off without an end of their record."""
    with pytest.raises(ValueError, match="--time-limit"):
        setattr(run, name, 5.0)
    assert getattr(run, name) is None
