"""The transport's parts that need no Redis, and the names in kombu it leans on."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.utils import filter_hidden_settings
from celery.worker.state import reserved_requests
from kombu.asynchronous import Hub
from kombu.messaging import Consumer
from kombu.transport import redis as stock
from kombu.transport import virtual

from workers.broker_link import BrokerLink, lean_broker
from workers.taken_message import TaskMessage
from workers.task_message import TaskCall
from workers.transport import (
    MAX_BATCH,
    Channel,
    QoS,
    SocketTransport,
    Transport,
)


def call(**changes: Any) -> TaskCall:
    fields: dict[str, Any] = {
        "id": "t1",
        "name": "run",
        "args": ["a"],
        "kwargs": {"b": 1},
        "labels": {"shadow": "agent.x"},
        "ignore_result": True,
        "priority": 3,
    }
    return TaskCall(**{**fields, **changes})


def channel() -> Any:
    return Channel.__new__(Channel)


def message(**changes: Any) -> TaskMessage:
    place = {"queue": "celery", "key": f"celery{stock.Channel.sep}3"}
    return TaskMessage(call(**changes), channel=channel(), tag=1, raw=b"raw", **place)


def test_a_message_is_already_decoded_and_carries_no_links() -> None:
    judged = message()
    assert judged.payload == [["a"], {"b": 1}, {}]
    assert judged.body is judged.payload
    assert judged.content_type is None
    assert judged.headers["task"] == "run"
    assert judged.delivery_info["routing_key"] == "celery"


def test_kombus_consumer_hands_a_judged_message_on_as_it_is() -> None:
    taken: list[Any] = []
    consumer = Consumer.__new__(Consumer)
    consumer.accept = {"application/json"}
    consumer.channel = SimpleNamespace(
        message_to_python=lambda raw: virtual.Channel.message_to_python(
            SimpleNamespace(Message=virtual.Message), raw
        )
    )
    consumer.on_message = taken.append
    judged = message()
    consumer._receive_callback(judged)
    assert taken == [judged]


def qos(prefetch_count: int, slots: int | None = None, *, tasks: bool = True) -> QoS:
    bare = channel()
    bare.do_restore = False
    bare._slots = None if slots is None else lambda: slots
    bare._tasks_wanted = {"q": print} if tasks else {}
    return QoS(bare, prefetch_count)


def test_credit_is_what_prefetch_leaves_free() -> None:
    slots = qos(3)
    assert slots.credit() == 3
    for tag in range(3):
        slots.append(message(), tag)
    assert slots.credit() == 0
    assert not slots.can_consume()
    slots.ack(1)
    assert slots.credit() == 1


class Reserved:
    """What Celery counts as reserved until its task is over."""


def test_credit_counts_tasks_that_were_acknowledged_and_run() -> None:
    requests = [Reserved(), Reserved()]
    reserved_requests.update(requests)
    try:
        assert qos(3).credit() == 1
        assert qos(1).credit() == -1
    finally:
        reserved_requests.difference_update(requests)


def test_without_prefetch_a_full_batch_may_come() -> None:
    assert qos(0).credit() == MAX_BATCH


@pytest.mark.parametrize("prefetch_count", [0, 1, 40])
def test_the_slots_that_are_told_go_before_what_celery_has_counted(
    prefetch_count: int,
) -> None:
    assert qos(prefetch_count, slots=4).credit() == 4
    full = qos(prefetch_count, slots=1)
    full.append(message(), 1)
    assert not full.can_consume()


def test_without_any_slot_a_pending_pop_is_read_so_that_it_goes_back() -> None:
    none = qos(4, slots=0)
    none.channel._in_poll = object()
    assert none.credit() == 0
    assert none.can_consume()


def test_without_any_slot_and_pop_what_comes_is_no_message() -> None:
    assert not qos(4, slots=0).can_consume()


def test_replies_to_remote_control_take_no_slot() -> None:
    replies = qos(0, slots=0, tasks=False)
    assert replies.credit() == MAX_BATCH
    assert replies.channel.may_take()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "redis://h:1/2",
            {
                "broker_transport": "workers.transport:Transport",
                "worker_disable_prefetch": False,
            },
        ),
        (
            "rediss://h:1/2",
            {
                "broker_transport": "workers.transport:Transport",
                "worker_disable_prefetch": False,
            },
        ),
        (
            "redis+socket:///run/r.sock?virtual_host=1",
            {
                "broker_transport": "workers.transport:SocketTransport",
                "worker_disable_prefetch": False,
            },
        ),
        ("sentinel://h", {}),
        ("memory://", {}),
    ],
)
def test_a_worker_is_put_on_the_transport(url: str, expected: dict[str, Any]) -> None:
    assert lean_broker(url) == expected


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://h:1/2", Transport),
        ("redis+socket:///run/r.sock?virtual_host=1", SocketTransport),
    ],
)
def test_a_worker_on_the_transport_can_tell_its_settings(
    url: str, transport: type[Transport]
) -> None:
    """Flower asks for them as soon as it has started."""
    app = Celery(set_as_current=False, amqp=BrokerLink)
    app.conf.update({"broker_url": url, **lean_broker(url)})
    told = filter_hidden_settings(app.conf.table(with_defaults=True))
    assert told["broker_url"].split(":")[0] == url.split(":", maxsplit=1)[0]
    for connection in (app.connection_for_read(), app.connection_for_read().clone()):
        assert type(connection.transport) is transport

    assert Transport.driver_type == "redis"
    assert Transport.implements.asynchronous
    assert Transport.Channel is SocketTransport.Channel is Channel
    assert Channel.QoS is QoS


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (stock.Channel, "_brpop_start", ["self", "timeout"]),
        (stock.Channel, "_brpop_read", ["self", "options"]),
        (stock.Channel, "_basic_cancel", ["self", "consumer_tag"]),
        (stock.Channel, "_receive_one", ["self", "c"]),
        (stock.Channel, "_restore", ["self", "message", "leftmost"]),
        (stock.Channel, "_flush_brpop_reauth", ["self"]),
        (stock.Channel, "_q_for_pri", ["self", "queue", "pri"]),
        (stock.Channel, "conn_or_acquire", ["self", "client"]),
        (virtual.Transport, "_deliver", ["self", "message", "queue"]),
        (Hub, "call_soon", ["self", "callback", "args"]),
    ],
)
def test_kombus_private_names_are_as_we_know_them(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert version("kombu").startswith("5.7.")
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_a_key_error_counts_as_a_lost_connection_in_kombu() -> None:
    assert KeyError in stock.Transport.connection_errors
