"""The asyncio pool in a real Celery worker: everything users of Celery rely on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from tests.integration.celery_app import LONG, go_on
from tests.integration.celery_stand import CeleryStand, celery_stand

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def stand(clean_redis_url: str, tmp_path: Path) -> Iterator[CeleryStand]:
    with celery_stand(clean_redis_url, tmp_path) as stand:
        yield stand


@contextmanager
def events(stand: CeleryStand) -> Iterator[list[str]]:
    """The types of the events that workers send meanwhile."""
    seen: list[str] = []
    patterns = stand.redis.pubsub_numpat()
    with stand.producer.connection_for_read() as connection:
        receiver = stand.producer.events.Receiver(
            connection, handlers={"*": lambda event: seen.append(event["type"])}
        )
        thread = Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        stand.until(lambda: stand.redis.pubsub_numpat() > patterns)
        yield seen
        receiver.should_stop = True
        thread.join()


def running(stand: CeleryStand) -> int:
    return int(stand.ask("stats")["pool"]["running"])


def test_a_thousand_waiting_tasks_fill_a_thousand_slots(stand: CeleryStand) -> None:
    stand.send_many("nap", 1.0, count=1_000)
    started = monotonic()
    stand.start_worker(slots=1_000)
    begun = monotonic()
    stand.until_notes(1_000, 30)
    assert monotonic() - begun < 4.0, f"worker start took {begun - started:.1f} s"


def test_a_soft_limit_reaches_the_task_and_a_hard_limit_ends_it(
    stand: CeleryStand,
) -> None:
    worker = stand.start_worker(count_signals=True)
    stand.send("patient")
    stand.send("endless")
    assert sorted(stand.until_notes(2)) == [
        "soft limit of tests.integration.celery_app.patient",
        "unwound",
    ]
    stand.until(lambda: stand.counts().get("task_failure") == 1)
    worker.await_log("Hard time limit (0.5s) exceeded")
    worker.await_log("Soft time limit (0.5s) exceeded")
    stand.until(lambda: stand.counts().get("task_success") == 1)
    stand.until(lambda: running(stand) == 0)  # the signal comes before the slot is free


def test_revoke_with_terminate_ends_a_running_task_at_once(
    stand: CeleryStand,
) -> None:
    worker = stand.start_worker(count_signals=True)
    task_id = stand.send("nap", LONG)
    stand.until(lambda: running(stand) == 1)
    (active,) = stand.ask("active")
    assert (active["id"], active["worker_pid"]) == (task_id, worker.process.pid)
    asked = monotonic()
    stand.producer.control.revoke(task_id, terminate=True)
    stand.until(lambda: running(stand) == 0)
    assert monotonic() - asked < 10.0
    assert stand.ask("active") == []
    assert stand.counts()["task_revoked"] == 1


def test_a_revoked_task_that_waits_never_runs(stand: CeleryStand) -> None:
    stand.start_worker(slots=1)
    first = stand.send("nap", LONG)
    stand.until(lambda: running(stand) == 1)
    second = stand.send("say", "ran")
    stand.producer.control.revoke([second])
    stand.send("say", "after")
    stand.producer.control.revoke(first, terminate=True)
    assert stand.until_notes(1) == ["after"]


def test_stats_tell_slots_and_pool_grow_and_shrink_change_them(
    stand: CeleryStand,
) -> None:
    stand.start_worker(slots=2)
    stand.send_many("nap", LONG, count=6)
    stand.until(lambda: running(stand) == 2)
    stand.producer.control.pool_grow(2)
    stand.until(lambda: running(stand) == 4)
    assert stand.ask("stats")["pool"]["max-concurrency"] == 4
    assert stand.redis.llen("celery") == 2
    stand.producer.control.pool_shrink(1)
    stand.until(lambda: stand.ask("stats")["pool"]["max-concurrency"] == 3)
    for task in stand.ask("active")[:2]:
        stand.producer.control.revoke(task["id"], terminate=True)
    stand.until(lambda: stand.redis.llen("celery") == 1)
    stand.until(lambda: running(stand) == 3)


def test_a_pool_restart_disturbs_no_task_that_runs(stand: CeleryStand) -> None:
    stand.start_worker(worker_pool_restarts=True)
    stand.send("nap", 1.0)
    stand.until(lambda: running(stand) == 1)
    (answer,) = stand.producer.control.pool_restart(reply=True)
    assert [*answer.values()] == [{"ok": "reload started"}]
    stand.send("say", "after")
    stand.until_notes(2)


def test_autoscale_grows_and_shrinks_the_pool(
    stand: CeleryStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "1")
    stand.start_worker("--autoscale", "8,1")
    stand.send_many("nap", 0.5, count=8)
    stand.until(lambda: running(stand) > 4)
    stand.until_notes(8)
    stand.until(lambda: stand.ask("stats")["pool"]["max-concurrency"] == 1)


def test_events_and_signals_tell_of_every_task(stand: CeleryStand) -> None:
    stand.start_worker(count_signals=True)
    with events(stand) as seen:
        stand.send("nap", 0.01)
        stand.send("fail")
        stand.until(lambda: {"task-succeeded", "task-failed"} <= set(seen))
    assert {"task-received", "task-started"} <= set(seen)
    stand.until(lambda: stand.counts().get("task_postrun") == 2)
    assert stand.counts() == {
        "worker_process_init": 1,
        "task_received": 2,
        "task_prerun": 2,
        "task_postrun": 2,
        "task_success": 1,
        "task_failure": 1,
    }


def test_rate_limits_hold(stand: CeleryStand) -> None:
    stand.start_worker()
    started = monotonic()
    stand.send_many("rare", "now", count=5)
    stand.until_notes(5)
    assert monotonic() - started > 0.7


def test_remote_control_answers_while_a_task_blocks_the_loop(
    stand: CeleryStand,
) -> None:
    stand.start_worker()
    stand.send("block")
    stand.until_notes(1)
    assert stand.ask("ping") == {"ok": "pong"}
    stand.until(lambda: len(stand.ask("active")) == 1)  # told up to 20 ms later
    go_on(stand.redis)


def test_a_warm_shutdown_finishes_what_runs_and_leaves_the_rest(
    stand: CeleryStand,
) -> None:
    worker = stand.start_worker(slots=3, count_signals=True)
    stand.send_many("nap", 1.0, count=5)
    stand.until(lambda: running(stand) == 3)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert len(stand.notes()) == 3
    assert stand.redis.llen("celery") == 2
    assert stand.counts()["worker_process_shutdown"] == 1
    assert stand.counts()["task_success"] == 3


def test_a_message_that_comes_during_a_warm_shutdown_stays_in_its_queue(
    stand: CeleryStand,
) -> None:
    worker = stand.start_worker(slots=3)
    stand.send("nap", 1.5)
    stand.until(lambda: running(stand) == 1)
    worker.signal(signal.SIGTERM)
    worker.await_log("Warm shutdown")
    stand.until(lambda: not _blocked(stand))
    stand.send("say", "for another worker")
    assert worker.wait() == 0
    assert stand.notes() == ["napped"]
    assert stand.redis.llen("celery") == 1


def test_a_cold_shutdown_cancels_what_runs(stand: CeleryStand) -> None:
    worker = stand.start_worker(count_signals=True)
    stand.send_many("tidy", LONG, count=3)
    stand.until(lambda: running(stand) == 3)
    asked = monotonic()
    worker.signal(signal.SIGQUIT)
    worker.wait()
    assert monotonic() - asked < 15.0
    assert stand.notes() == ["tidied"] * 3
    assert stand.counts()["worker_process_shutdown"] == 1
    assert "Traceback" not in worker.text()


def test_a_soft_shutdown_waits_for_its_time_only(stand: CeleryStand) -> None:
    worker = stand.start_worker(worker_soft_shutdown_timeout=1.0)
    stand.send("nap", 0.5)
    stand.send("nap", LONG)
    stand.until(lambda: running(stand) == 2)
    asked = monotonic()
    worker.signal(signal.SIGQUIT)
    worker.wait()
    assert 1.0 <= monotonic() - asked < 15.0
    assert stand.notes() == ["napped"]


def test_the_worker_takes_the_stock_transport_as_well(stand: CeleryStand) -> None:
    stand.start_worker(lean=False)
    stand.send_many("nap", 0.1, count=30)
    stand.until_notes(30)


def _blocked(stand: CeleryStand) -> bool:
    return any(
        client["cmd"] in ("blmpop", "brpop") and "b" in client["flags"]
        for client in stand.redis.client_list()
    )
