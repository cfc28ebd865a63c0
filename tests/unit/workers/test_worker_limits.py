"""What a worker's command line says of limits holds for runs, not for messages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.task import Task
from workers.executor_parts import ExecutorLimits
from workers.run import Run
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
