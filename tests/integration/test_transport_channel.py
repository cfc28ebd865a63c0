"""A channel of the lean transport on a real Redis, without Celery's worker."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Queue

from orchestrator.celery_settings import celery_settings
from orchestrator.redis_url import for_kombu
from orchestrator.settings import load_settings
from tests.integration.redis_server import redis_server
from tests.stand import wait_until
from workers import blocking_pop
from workers.broker_link import PatientConnection, lean_broker
from workers.taken_message import TaskMessage
from workers.transport import Channel

PATIENCE_SECONDS = 20.0
"""What is told at once takes far less on any machine."""

Taken = Callable[[TaskMessage], object]


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Connection]:
    broker = for_kombu(url)
    with PatientConnection(
        broker,
        transport=lean_broker(broker)["broker_transport"],
        transport_options=options,
    ) as connection:
        yield connection


@contextmanager
def consuming(
    url: str, take: Taken, prefetch_count: int = 0, **options: Any
) -> Iterator[Channel]:
    """A channel that consumes queue `q`."""
    with connected(url, **options) as connection, connection.channel() as channel:
        consumer = Consumer(channel, [Queue("q")], on_message=take)
        consumer.qos(prefetch_count=prefetch_count)
        with consumer:
            yield channel


@pytest.fixture
def client(clean_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(clean_redis_url) as client:
        yield client


def push(client: redis.Redis, *ids: str, queue: str = "q") -> None:
    for task_id in ids:
        body = base64.b64encode(b"[[], {}, {}]").decode()
        message = {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"id": task_id, "task": "run"},
            "properties": {"delivery_tag": task_id, "body_encoding": "base64"},
        }
        client.lpush(queue, json.dumps(message))


def queued(client: redis.Redis) -> list[str]:
    """Ids in the order in which they would be taken."""
    lying = client.lrange("q", 0, -1)[::-1]
    return [json.loads(message)["headers"]["id"] for message in lying]


def drain(channel: Channel, seconds: float = 0.2) -> None:
    """Take what there is and leave a pop that blocks."""
    with suppress(TimeoutError):
        while True:
            channel.connection.client.drain_events(timeout=seconds)


def pops(client: redis.Redis) -> int:
    return sum(
        other["cmd"] in ("blmpop", "brpop") and "b" in other["flags"]
        for other in client.client_list()
    )


def test_what_was_taken_and_not_acknowledged_goes_back_in_its_order(
    clean_redis_url: str, client: redis.Redis
) -> None:
    push(client, "a", "b", "c", "d", "e")
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append, prefetch_count=4) as channel:
        drain(channel)
        assert [message.headers["id"] for message in taken] == ["a", "b", "c", "d"]
        taken[1].ack()
        # A run holds its message to its end, and needs no text of it.
        assert [bool(message.raw) for message in taken] == [True, False, True, True]
        client.config_resetstat()
    assert queued(client) == ["a", "c", "d", "e"]
    # A Redis that is silent is waited for once, not once for each message.
    assert client.info("commandstats")["cmdstat_rpush"]["calls"] == 1


def test_a_rejected_message_may_be_queued_again_behind_the_others(
    clean_redis_url: str, client: redis.Redis
) -> None:
    push(client, "a", "b")
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append, prefetch_count=1) as channel:
        drain(channel)
        taken[0].reject(requeue=True)
        assert queued(client) == ["b", "a"]


def test_a_consumer_that_fails_has_its_message_put_aside(
    clean_redis_url: str, client: redis.Redis
) -> None:
    def refuse(message: TaskMessage) -> None:
        raise KeyError("stock Celery takes this for a lost connection")

    push(client, "a")
    with consuming(clean_redis_url, refuse, prefetch_count=1) as channel:
        drain(channel)
        assert client.hgetall("q.malformed.counts") == {b"refused": b"1"}
        assert channel.qos.credit() == 1


def test_a_lost_connection_in_a_consumer_loses_no_message_of_the_batch(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[str] = []

    def take(message: TaskMessage) -> None:
        taken.append(message.headers["id"])
        if len(taken) == 1:
            raise ConnectionResetError

    push(client, "a", "b", "c")
    with consuming(clean_redis_url, take) as channel:
        with pytest.raises(ConnectionResetError):
            channel.connection.client.drain_events(timeout=1)
        assert taken == ["a", "b", "c"]


def test_closing_ends_the_blocked_pop_at_once(
    clean_redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking_pop, "UNBLOCK_SECONDS", PATIENCE_SECONDS)
    with consuming(clean_redis_url, print) as channel:
        drain(channel)
        assert pops(client) == 1
        asked = monotonic()
    assert monotonic() - asked < PATIENCE_SECONDS / 2
    assert pops(client) == 0
    push(client, "later")
    assert queued(client) == ["later"]


def test_a_channel_closes_though_its_server_is_away() -> None:
    """Celery's gossip ends so; its error ended a worker that was told to go with 1."""
    events = Queue("ev", Exchange("ev", type="fanout"), auto_delete=True)
    with redis_server() as server, connected(server.url) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [events], on_message=lambda _: None)
        consumer.consume()
        drain(channel)
        server.kill()
        consumer.cancel()
        channel.close()
        assert channel.closed


def test_messages_that_came_before_the_end_go_back_in_their_order(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append) as channel:
        drain(channel)
        with client.pipeline() as pipe:
            push(pipe, "a", "b", "c")
            pipe.execute()
        wait_until(lambda: not pops(client), 5)
        push(client, "d")
    assert taken == []
    assert queued(client) == ["a", "b", "c", "d"]


def test_a_channel_that_closes_takes_nothing_more(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    with connected(clean_redis_url) as connection:
        channel = connection.channel()
        Consumer(channel, [Queue("q")], on_message=taken.append).consume()
        drain(channel)
        push(client, "a")
        wait_until(lambda: not pops(client), 5)
        channel.close()
    assert taken == []
    assert queued(client) == ["a"]


def test_a_full_queue_keeps_no_other_waiting(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[str] = []

    def take(message: TaskMessage) -> None:
        taken.append(message.key)
        message.ack()

    for queue in ("q", "r"):
        push(client, "a", "b", "c", queue=queue)
    options = celery_settings(load_settings())["broker_transport_options"]
    order = {"queue_order_strategy": options["queue_order_strategy"]}
    with (
        connected(clean_redis_url, **order) as connection,
        connection.channel() as channel,
    ):
        queues = [Queue("q"), Queue("r")]
        with Consumer(channel, queues, on_message=take) as consumer:
            consumer.qos(prefetch_count=1)
            drain(channel)
    assert sorted(taken) == ["q", "q", "q", "r", "r", "r"]
    assert set(taken[:2]) == set(taken[2:4]) == {"q", "r"}


def test_what_may_not_be_taken_is_left_to_others(
    clean_redis_url: str, client: redis.Redis
) -> None:
    slots = [1]
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append, slots=lambda: slots[0]) as channel:
        drain(channel)
        assert pops(client) == 1
        slots[0] = 0
        push(client, "came to the pending pop")
        drain(channel)
        assert queued(client) == ["came to the pending pop"]
        assert (taken, pops(client)) == ([], 0)
        slots[0] = 1
        drain(channel)
        assert len(taken) == 1


def test_an_idle_connection_that_is_closed_without_a_slot_is_opened_again(
    clean_redis_url: str, client: redis.Redis
) -> None:
    slots = [1]
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append, slots=lambda: slots[0]) as channel:
        drain(channel)
        slots[0] = 0
        push(client, "came to the pending pop")
        drain(channel)
        assert client.client_kill_filter(_id=str(channel._pop.client_id)) == 1
        drain(channel)
        slots[0] = 1
        drain(channel)
        assert len(taken) == 1


def test_fewer_slots_end_a_pop_that_could_take_too_many(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    with consuming(clean_redis_url, taken.append, prefetch_count=5) as channel:
        drain(channel)
        channel.basic_qos(prefetch_count=2)
        with client.pipeline() as pipe:
            push(pipe, "a", "b", "c")
            pipe.execute()
        drain(channel)
        assert len(taken) == 2


@contextmanager
def humbled(url: str, client: redis.Redis, command: str) -> Iterator[str]:
    """The URL for a user who may do all but one thing."""
    client.acl_setuser(
        "humble",
        enabled=True,
        nopass=True,
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=[f"-{command}"],
    )
    try:
        yield url.replace("unix://", "unix://humble:x@")
    finally:
        client.acl_deluser("humble")


def test_a_user_who_may_not_ask_for_client_ids_closes_too(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    with humbled(clean_redis_url, client, "client") as url:
        with consuming(url, taken.append) as channel:
            push(client, "a")
            drain(channel)
            assert len(taken) == 1
            asked = monotonic()
        assert monotonic() - asked < PATIENCE_SECONDS / 2


def test_the_first_of_a_batch_is_kept_when_redis_refuses_to_tell_the_others(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    with (
        humbled(clean_redis_url, client, "rpop") as url,
        consuming(url, taken.append) as channel,
    ):
        channel._pop.takes_batches = False  # as on Redis 6.2
        push(client, "a", "b")
        drain(channel)
        assert [message.headers["id"] for message in taken] == ["a", "b"]


def test_a_stock_producer_and_a_lean_one_write_what_is_understood(
    clean_redis_url: str, client: redis.Redis
) -> None:
    taken: list[TaskMessage] = []
    headers = {"id": "a", "task": "run"}
    with (
        consuming(clean_redis_url, taken.append) as channel,
        Connection(for_kombu(clean_redis_url)) as stock,
        connected(clean_redis_url) as lean,
    ):
        for connection in (stock, lean):
            with connection.Producer() as producer:
                producer.publish(
                    [["x"], {}, {}], routing_key="q", headers=headers, serializer="json"
                )
        drain(channel)
    assert [message.payload for message in taken] == [[["x"], {}, {}]] * 2
