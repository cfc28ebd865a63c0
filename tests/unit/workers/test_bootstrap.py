"""What a worker process refuses before it takes work."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.worker import WorkController
from celery.worker.components import Pool

from workers.bootstrap import AgentStep


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_that_cannot_run_coroutines_is_refused_with_the_remedy(
    pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pool_class = type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})
    with pytest.raises(SystemExit) as ended:
        AgentStep(SimpleNamespace(pool_cls=pool_class))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"'{pool}'" in said
    assert "--pool threads" in said


def test_agents_start_after_the_pool_whose_loop_they_run_on() -> None:
    """Celery orders steps that nothing orders by the addresses of their classes."""
    blueprint = WorkController.Blueprint({AgentStep})
    order = blueprint._finalize_steps(blueprint.claim_steps())
    assert order.index(AgentStep) > order.index(Pool)
    assert Pool in blueprint.graph[AgentStep]
