"""Nothing that anyone pushes into Redis may stop a worker, whatever its pool."""

from __future__ import annotations

import base64
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.celery_app import ASYNC_POOL
from tests.integration.celery_stand import TASKS, CeleryStand, celery_stand
from tests.integration.redis_server import redis_server

pytestmark = pytest.mark.timeout(120)

POOLS = [ASYNC_POOL, "threads", "prefork", "solo"]
SAY = f"{TASKS}.say"
PICKLE = "application/x-python-serialize"
YAML = "application/x-yaml"


@pytest.fixture
def stand(clean_redis_url: str, tmp_path: Path) -> Iterator[CeleryStand]:
    with celery_stand(clean_redis_url, tmp_path) as stand:
        yield stand


class Bomb:
    """A pickle that tells when somebody loads it."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._trace,)


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def message(
    *,
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A sound message that says "sound", but for the changes."""
    return {
        "body": encoded([["sound"], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"id": "forged", "task": SAY, **(headers or {})},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "body_encoding": "base64",
            **(properties or {}),
        },
        **fields,
    }


def without(field: str) -> dict[str, Any]:
    whole = message()
    del whole[field]
    return whole


def corpus(trace: Path) -> list[tuple[str, bytes]]:
    """Return every kind of garbage with the reason it is counted under."""
    bomb = base64.b64encode(pickle.dumps(Bomb(trace))).decode()
    yaml = base64.b64encode(f"!!python/object/apply:os.mkdir ['{trace}']".encode())
    plain: list[tuple[str, bytes]] = [
        ("not_json", b"no JSON"),
        ("not_json", b"\xff\xfe\x00"),
        ("not_json", b"[" * 50_000),
        ("not_json", pickle.dumps(Bomb(trace))),
        ("not_an_object", b"42"),
        ("not_an_object", b"null"),
        ("not_an_object", b'["a", "list"]'),
        ("headers", b"{}"),
        ("too_large", b'"' + b"x" * 2_000_000 + b'"'),
    ]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("headers", without("headers")),
        ("headers", message() | {"headers": None}),
        ("properties", without("properties")),
        ("delivery_tag", message(properties={"delivery_tag": None})),
        ("body", without("body")),
        ("body", message(body="not base64 !")),
        ("not_json", message(body=base64.b64encode(b"\xff\xfe").decode())),
        ("body", message(body=encoded({"task": SAY}))),
        ("body", message(body=encoded([["a"], {}]))),
        ("body", message(body=encoded([{}, [], {}]))),
        ("id", message(headers={"id": None})),
        ("id", message(headers={"id": "a\0b"})),
        ("id", message(headers={"id": "x" * 1_000_000})),
        ("task", message(headers={"task": None})),
        ("foreign_task", message(headers={"task": "celery.backend_cleanup"})),
        ("foreign_task", message(headers={"task": "os.system"})),
        ("content_type", message(body=bomb) | {"content-type": PICKLE}),
        ("content_type", message(body=yaml.decode()) | {"content-type": YAML}),
        ("content_type", message() | {"content-type": "text/who-knows"}),
        ("content_type", message() | {"content-encoding": "utf-7"}),
        ("content_type", message(headers={"compression": "application/x-gzip"})),
        ("body_encoding", message(properties={"body_encoding": "rot13"})),
    ]  # fmt: skip
    return plain + [(reason, json.dumps(kind).encode()) for reason, kind in kinds]


@pytest.mark.parametrize("pool", POOLS)
def test_garbage_is_put_aside_and_counted_and_the_worker_lives(
    stand: CeleryStand, tmp_path: Path, pool: str
) -> None:
    trace = tmp_path / "exploded"
    worker = stand.start_worker(
        pool=pool, slots=2, transport_options={"accept_tasks": [SAY]}
    )
    garbage = corpus(trace)
    for _, raw in garbage:
        stand.redis.lpush("celery", raw)
        stand.redis.lpush("celery", json.dumps(message()))
    assert stand.until_notes(len(garbage), 20) == ["sound"] * len(garbage)
    stand.until(lambda: stand.redis.llen("celery.malformed") == len(garbage))
    counted = stand.redis.hgetall("celery.malformed.counts")
    expected = Counter(reason for reason, _ in garbage)
    assert {name.decode(): int(n) for name, n in counted.items()} == expected
    assert max(stand.redis.lrange("celery.malformed", 0, -1), key=len)[65_536:] == b""
    assert not trace.exists()
    assert worker.process.poll() is None
    assert "Connection to broker lost" not in worker.text()


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_message_claims_beside_its_task_is_ignored(
    stand: CeleryStand, pool: str
) -> None:
    stand.start_worker(pool=pool, slots=2)
    link = {"task": SAY, "args": ["linked"], "kwargs": {}, "options": {}}
    claims = message(
        headers={
            "task": f"{TASKS}.seen_request",
            "eta": "2099-01-01T00:00:00",
            "expires": "1999-01-01T00:00:00",
            "retries": 99,
            "timelimit": ["soon", {}],
            "shadow": ["no", "name"],
            "stamped_headers": ["x"],
        },
        properties={"priority": "high", "reply_to": 7, "delivery_info": "nowhere"},
        body=encoded([[], {}, {"callbacks": [link], "chain": [link], "retries": 5}]),
    )
    stand.redis.lpush("celery", json.dumps(claims))
    assert stand.until_notes(1) == ["0 None None None"]
    stand.send("say", "next")
    assert stand.until_notes(2) == ["0 None None None", "next"]


def test_the_quarantine_keeps_the_newest_thousand(stand: CeleryStand) -> None:
    with stand.redis.pipeline(transaction=False) as pipe:
        for number in range(1_200):
            pipe.lpush("celery", f"garbage {number}")
        pipe.execute()
    worker = stand.start_worker()
    counts = "celery.malformed.counts"
    stand.until(lambda: stand.redis.hget(counts, "not_json") == b"1200")
    kept = stand.redis.lrange("celery.malformed", 0, -1)
    assert len(kept) == 1_000
    assert kept[0] == b"garbage 1199"
    assert worker.text().count("malformed message put aside") == 1


def test_garbage_among_broadcasts_is_dropped(stand: CeleryStand) -> None:
    worker = stand.start_worker()
    for garbage in (b"7", b"null", b"[]", b"{", b"{}", b'{"properties": {}}', b"\xff"):
        stand.redis.publish("/1.celery.pidbox", garbage)
    assert stand.ask("ping") == {"ok": "pong"}
    assert "Connection to broker lost" not in worker.text()


def test_a_queue_of_the_wrong_type_does_not_end_the_worker(stand: CeleryStand) -> None:
    worker = stand.start_worker()
    stand.redis.set("celery", "no list")
    stand.redis.client_kill_filter(_type="normal", skipme=True)
    worker.await_log("(server:ResponseError)")
    stand.redis.delete("celery")
    stand.send("say", "served again")
    assert stand.until_notes(1, 30) == ["served again"]


def test_a_redis_that_is_full_does_not_end_the_worker(tmp_path: Path) -> None:
    with redis_server() as server, celery_stand(server.url, tmp_path) as stand:
        worker = stand.start_worker()
        stand.redis.config_set("maxmemory", "1")
        stand.redis.client_kill_filter(_type="normal", skipme=True)
        worker.await_log("(server:OutOfMemoryError)")
        stand.redis.config_set("maxmemory", "0")
        stand.send("say", "served again")
        assert stand.until_notes(1, 30) == ["served again"]
