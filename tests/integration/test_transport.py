"""The lean transport under real workers of each pool, beside stock producers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
import redis

from tests.integration.celery_app import ASYNC_POOL, LONG
from tests.integration.celery_stand import CeleryStand, celery_stand
from tests.integration.redis_server import old_server, redis_server
from tests.stand import wait_until
from workers.transport import POP_SECONDS

pytestmark = pytest.mark.timeout(120)

POOLS = [ASYNC_POOL, "threads", "prefork", "solo"]


@pytest.fixture
def stand(clean_redis_url: str, tmp_path: Path) -> Iterator[CeleryStand]:
    with celery_stand(clean_redis_url, tmp_path) as stand:
        yield stand


def commands(client: redis.Redis, name: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0))


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_works_and_stops_at_once(stand: CeleryStand, pool: str) -> None:
    worker = stand.start_worker(pool=pool, slots=3)
    stand.send_many("say", "done", count=30)
    stand.until_notes(30)
    asked = monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert monotonic() - asked < 15.0
    assert len(stand.notes()) == 30


def test_messages_come_in_batches_and_nothing_is_written_about_them(
    stand: CeleryStand,
) -> None:
    stand.redis.config_resetstat()
    stand.send_many("nap", 0.05, count=500)
    stand.start_worker(slots=500)
    stand.until_notes(500)
    assert commands(stand.redis, "blmpop") + commands(stand.redis, "brpop") < 100
    assert commands(stand.redis, "zadd") + commands(stand.redis, "zrem") < 5
    assert not stand.redis.exists("unacked", "unacked_index")


@pytest.mark.parametrize("pool", [ASYNC_POOL, "threads", "prefork"])
def test_no_more_is_taken_than_slots_are_free(stand: CeleryStand, pool: str) -> None:
    stand.send_many("nap", 2.0, count=10)
    stand.start_worker(pool=pool, slots=3)
    stand.until(lambda: len(stand.ask("active")) == 3)
    assert stand.redis.llen("celery") == 7
    assert stand.ask("reserved") == []


def test_priority_0_comes_first(stand: CeleryStand) -> None:
    for priority in (9, 6, 3, 0):
        stand.send("say", str(priority), priority=priority)
    stand.start_worker(slots=1)
    assert stand.until_notes(4) == ["0", "3", "6", "9"]


def test_several_queues_are_served(stand: CeleryStand) -> None:
    stand.start_worker("-Q", "left,right")
    for name in ("left", "right", "left", "right"):
        stand.send("say", name, queue=name)
    assert sorted(stand.until_notes(4)) == ["left", "left", "right", "right"]


def test_a_queue_is_added_and_cancelled_while_the_pop_blocks(
    stand: CeleryStand,
) -> None:
    stand.start_worker()
    stand.producer.control.add_consumer("late", reply=True)
    asked = monotonic()
    stand.send("say", "late", queue="late")
    stand.until_notes(1)
    assert monotonic() - asked < POP_SECONDS / 2
    stand.producer.control.cancel_consumer("late", reply=True)
    stand.send("say", "too late", queue="late")
    stand.send("say", "still served")
    assert stand.until_notes(2) == ["late", "still served"]
    assert stand.redis.llen("late") == 1


def test_keys_carry_the_global_prefix(clean_redis_url: str, tmp_path: Path) -> None:
    with celery_stand(clean_redis_url, tmp_path, prefix="here:") as stand:
        stand.start_worker()
        stand.send("say", "prefixed")
        stand.redis.lpush("here:celery", b"garbage")
        stand.until_notes(1)
        stand.until(lambda: stand.redis.llen("here:celery.malformed") == 1)
        assert stand.redis.hgetall("here:celery.malformed.counts") == {
            b"not_json": b"1"
        }
        stray = [key for key in stand.redis.keys("celery*") if b"pidbox" not in key]
        assert stray == []


def test_redis_6_2_serves_by_brpop(tmp_path: Path) -> None:
    with (
        redis_server(old_server()) as server,
        celery_stand(server.url, tmp_path) as stand,
    ):
        assert stand.redis.info("server")["redis_version"].startswith("6.2")
        stand.send_many("nap", 0.05, count=100)
        stand.start_worker(slots=50)
        stand.until_notes(100)
        assert 1 < commands(stand.redis, "brpop") < 60
        assert commands(stand.redis, "blmpop") <= 1


def test_redis_is_reached_over_tcp(tmp_path: Path) -> None:
    with (
        redis_server(tcp=True) as server,
        celery_stand(server.tcp_url, tmp_path) as stand,
    ):
        worker = stand.start_worker()
        stand.send_many("say", "over tcp", count=5)
        assert stand.until_notes(5) == ["over tcp"] * 5
        old = stand.redis.info("server")["redis_version"].startswith("6.")
        assert commands(stand.redis, "brpop" if old else "blmpop") > 0
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("pool", [ASYNC_POOL, "threads"])
def test_a_redis_that_was_killed_is_found_again(tmp_path: Path, pool: str) -> None:
    with redis_server() as server, celery_stand(server.url, tmp_path) as stand:
        stand.start_worker(pool=pool, slots=5)
        for number in range(3):
            stand.send("nap", 3.0, f"running {number}")
        stand.until(lambda: len(stand.ask("active")) == 3)
        server.kill()
        server.start()
        stand.redis.connection_pool.disconnect()
        stand.send("say", "afterwards")
        notes = stand.until_notes(4, 30)
        assert sorted(notes) == [
            "afterwards",
            "running 0",
            "running 1",
            "running 2",
        ]
        stand.send_many("nap", LONG, count=6)
        stand.until(lambda: len(stand.ask("active")) == 5)


def test_a_full_pool_takes_tasks_again_after_redis_was_killed(tmp_path: Path) -> None:
    with redis_server() as server, celery_stand(server.url, tmp_path) as stand:
        stand.start_worker(slots=3)
        stand.send_many("nap", 4.0, count=3)
        stand.until(lambda: len(stand.ask("active")) == 3)
        server.kill()
        server.start()
        stand.redis.connection_pool.disconnect()
        stand.send_many("nap", 0.1, count=30)
        stand.until_notes(33, 30)


def test_a_worker_that_was_stopped_for_ten_seconds_goes_on(stand: CeleryStand) -> None:
    worker = stand.start_worker(slots=1_000, transport_options={"socket_timeout": 5.0})
    stand.send_many("nap", 2.0, count=500)
    stand.until(lambda: stand.redis.llen("celery") == 0)
    worker.signal(signal.SIGSTOP)
    stopped = monotonic()
    stand.send_many("nap", 0.1, count=300)
    wait_until(lambda: monotonic() - stopped > 10.0, 15.0)
    worker.signal(signal.SIGCONT)
    stand.until_notes(800, 15)
    assert stand.ask("ping") == {"ok": "pong"}
    stand.send("say", "alive")
    stand.until_notes(801)


def test_rejected_and_revoked_tasks_leave_no_credit_behind(stand: CeleryStand) -> None:
    stand.start_worker(slots=2)
    for _ in range(5):
        stand.send("unknown_task")
        stand.send("say", wrong="argument")
        stand.producer.control.revoke(stand.send("nap", LONG), terminate=True)
    stand.send_many("nap", 0.1, count=10)
    stand.until_notes(10)
