"""The pool of processes in a real Celery worker: where Celery's own does less."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.celery_app import PREFORK_POOL
from tests.integration.celery_stand import CeleryStand, celery_stand

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def stand(clean_redis_url: str, tmp_path: Path) -> Iterator[CeleryStand]:
    with celery_stand(clean_redis_url, tmp_path) as stand:
        yield stand


def test_a_shutdown_waits_for_what_a_child_was_given_and_had_not_begun(
    stand: CeleryStand,
) -> None:
    worker = stand.start_worker("-l", "DEBUG", pool=PREFORK_POOL, slots=1)
    (child,) = stand.ask("stats")["pool"]["processes"]
    os.kill(child, signal.SIGSTOP)
    stand.send("say", "given")
    stand.until(lambda: stand.ask("stats")["pool"]["writes"]["total"] == 1)
    worker.signal(signal.SIGTERM)
    worker.await_log("Worker: Stopping Pool")
    os.kill(child, signal.SIGCONT)
    worker.wait()  # less than the 30 s for which a child waits to be heard
    assert stand.notes() == ["given"]
    assert "succeeded" in worker.text()
    assert "Restoring" not in worker.text()


def test_a_child_that_dies_slowly_is_replaced_at_once(stand: CeleryStand) -> None:
    stand.start_worker(pool=PREFORK_POOL, slots=1)
    stand.send("die_slowly")
    stand.until_notes(1)
    died = monotonic()
    stand.send("say", "replaced")
    stand.until_notes(2)
    assert monotonic() - died < 2.5, "Celery looks every 5 s by itself"
