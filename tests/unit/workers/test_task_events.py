"""Events of tasks are written for who listens, and for nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from workers.task_events import MOST_UNSENT, TaskEvents


class Producer:
    """Keeps what is published through it."""

    def __init__(self) -> None:
        self.channel = SimpleNamespace(nobody_listens=False)
        self.published: list[Any] = []
        self.insists = False
        self.is_refused = False
        self.tries = 0

    def publish(self, event: Any, *, retry: bool, **_: Any) -> None:
        self.tries += 1
        if self.is_refused:
            raise ConnectionError
        self.published.append(event)
        self.insists = self.insists or retry


@pytest.fixture
def producer() -> Producer:
    return Producer()


def dispatcher(producer: object) -> Any:
    app = Celery("test", broker="memory://", events=TaskEvents, set_as_current=False)
    made = app.events.Dispatcher(app.connection_for_write(), enabled=False)
    made.enabled, made.producer = True, producer
    return made


def test_events_of_tasks_reach_who_listens(producer: Producer) -> None:
    dispatcher(producer).send("task-started", uuid="t1")
    (event,) = producer.published
    assert (event["type"], event["uuid"]) == ("task-started", "t1")


def test_nothing_is_written_for_nobody(producer: Producer) -> None:
    producer.channel.nobody_listens = True
    events = dispatcher(producer)
    events.send("task-started", uuid="t1")
    events.flush()
    assert producer.published == []
    producer.channel.nobody_listens = False
    events.send("task-succeeded", uuid="t1")
    assert [event["type"] for event in producer.published] == ["task-succeeded"]


def test_a_worker_is_always_told_of(producer: Producer) -> None:
    producer.channel.nobody_listens = True
    dispatcher(producer).send("worker-online")
    assert len(producer.published) == 1


def test_another_transport_knows_of_no_listeners(producer: Producer) -> None:
    del producer.channel.nobody_listens
    dispatcher(producer).send("task-started", uuid="t1")
    assert len(producer.published) == 1


def test_a_dispatcher_that_is_off_sends_nothing() -> None:
    events = dispatcher(None)
    events.disable()
    events.send("task-started", uuid="t1")


def test_a_heartbeat_does_not_wait_for_a_broker_that_is_silent(
    producer: Producer,
) -> None:
    dispatcher(producer).send("worker-heartbeat", retry=True)  # as Celery does
    assert len(producer.published) == 1
    assert not producer.insists


def test_what_cannot_be_sent_costs_no_more_the_more_there_is(
    producer: Producer,
) -> None:
    events = dispatcher(producer)
    producer.is_refused = True
    for number in range(2 * MOST_UNSENT):
        events.send("task-started", uuid=str(number))
    producer.tries = 0
    events.flush()
    assert producer.tries == 1
    producer.is_refused = False
    events.flush()
    sent = sorted(int(event["uuid"]) for event in producer.published)
    assert sent == list(range(MOST_UNSENT, 2 * MOST_UNSENT))


def test_a_broker_that_is_silent_is_tried_once_for_the_batch_that_waits_too(
    producer: Producer,
) -> None:
    events = dispatcher(producer)
    events.buffer_group = frozenset(["task"])  # as a worker's
    producer.is_refused = True
    for number in range(2 * events.buffer_limit):
        events.send("task-started", uuid=str(number))
    events.send("task-started", uuid="last")
    producer.tries = 0
    events.flush()
    assert producer.tries == 1
    producer.is_refused = False
    events.flush()
    sent = [event["uuid"] for batch in producer.published for event in batch]
    assert len(sent) == 2 * events.buffer_limit + 1
    assert "last" in sent


def test_an_event_that_comes_as_its_batch_is_put_aside_is_kept(
    producer: Producer,
) -> None:
    """With threads, tasks end on others than the one that sends what waits."""

    late = [{"uuid": "late"}]

    class Shared(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from super().__iter__()
            while late:
                self.append(late.pop())

    events = dispatcher(producer)
    events.buffer_group = frozenset(["task"])
    producer.is_refused = True
    events.send("task-started", uuid="unsent")
    events.flush()
    events._group_buffer["task"] = Shared([{"uuid": "due"}])
    events.flush()
    producer.is_refused = False
    events.flush()
    sent = [event["uuid"] for batch in producer.published for event in batch]
    assert sorted(sent) == ["due", "late", "unsent"]
