"""The lean Redis transport of our workers: batches, no books, no fear of garbage.

Chosen by the settings of `broker_link.lean_broker`. Producers may be stock.
The store is the truth, so a message counts as handled when it was read: nothing is
written about it, and what a dying worker held is rung for again. One that is no call of
a task goes to `<queue>.malformed`. Leans on private names of kombu 5.7, see its tests.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any

from celery.worker.state import reserved_requests
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.imports import symbol_by_name
from kombu.utils.json import dumps, loads

from workers.blocking_pop import BlockingPop
from workers.doorbell import read_task_call
from workers.listeners import Listeners
from workers.quarantine import Quarantine
from workers.taken_message import TaskMessage
from workers.task_message import MalformedMessage

logger = logging.getLogger(__name__)

MAX_BATCH = 128
"""Messages in one pop: enough to fill slots, few enough to be fair to other queues."""
POP_SECONDS = 30
"""How long Redis holds an empty pop; ended early when queues or slots change."""
EVENTS_EXCHANGE = "celeryev"


class QoS(virtual.QoS):  # type: ignore[misc]
    """Keeps what is in hand in memory only."""

    def credit(self) -> int:
        """Return how many messages may be taken now: free slots, if they are told."""
        most: int | None = self.channel.most_in_hand(self.prefetch_count)
        if most is None:
            return MAX_BATCH
        in_hand = len(self._delivered) - len(self._dirty)
        return most - max(in_hand, len(reserved_requests))

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge a message, whose text nobody will put back then."""
        message = self._delivered.get(delivery_tag)
        if message is not None:
            message.raw = b""
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[object]:
        """Return what is in hand, with one call for each list.

        While it waits for a silent Redis, a worker hears no signal and no command.
        """
        self._flush()
        by_key: dict[str, list[bytes]] = {}
        for message in self._delivered.values():
            if isinstance(message, TaskMessage):
                by_key.setdefault(message.key, []).append(message.raw)
            else:
                self.channel._restore(message)
        self._delivered.clear()
        for key, batch in by_key.items():
            self.channel.push_back(key, batch)
        return []

    def can_consume(self) -> bool:
        """Tell whether a slot is free, or what a pending pop brings is to go back.

        Without either nothing is expected: what comes is the end of a connection that
        idled for long, which kombu closes and opens again once a slot is free.
        """
        if self.credit() > 0:
            return True
        return bool(self.channel._in_poll) and not self.channel.may_take()


class Channel(stock.Channel):  # type: ignore[misc]
    """Takes batches and judges each message before Celery sees it."""

    QoS = QoS
    accept_tasks: Sequence[str] | None = None
    """Transport option: names of the only tasks that messages may call."""
    slots: str | Callable[[], int] | None = None
    """Transport option: tells, or names what tells, how many tasks may be in hand.

    At 0 also what the pending pop still brings goes back. Without it that is Celery's
    prefetch count, which does not follow every change of a pool.
    """
    from_transport_options = (
        *stock.Channel.from_transport_options,
        "accept_tasks",
        "slots",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tasks_wanted: dict[str, Callable[[TaskMessage], object]] = {}
        self._tags = itertools.count(1)
        """Of deliveries; those in messages may repeat."""
        self._listeners = Listeners()
        super().__init__(*args, **kwargs)
        self._slots: Callable[[], int] | None = symbol_by_name(self.slots)  # type: ignore[no-untyped-call]
        self._broken = tuple(
            error for error in self.connection_errors if error is not KeyError
        )
        self._pop = BlockingPop(refused=self.ResponseError, lost=self.connection_errors)
        self._quarantine = Quarantine(key_prefix=self.global_keyprefix)

    def most_in_hand(self, prefetch_count: int) -> int | None:
        """Return how many messages may be in hand; None is any number.

        Replies to remote control, on channels without tasks, take no slot.
        """
        if self._slots is None or not self._tasks_wanted:
            return prefetch_count or None
        return self._slots()

    def may_take(self) -> bool:
        """Tell whether tasks are to be taken at all, or replies, which take no slot."""
        return self._slots is None or not self._tasks_wanted or self._slots() > 0

    def queue_of(self, key: str) -> str:
        """Return the queue of an unprefixed key, which may have a priority's suffix."""
        return key.rsplit(self.sep, 1)[0]

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any
    ) -> Any:
        """Consume a queue from now on; one with acknowledgements carries tasks."""
        if not no_ack:
            self._tasks_wanted[queue] = callback
        result = super().basic_consume(
            queue, no_ack=no_ack, callback=callback, consumer_tag=consumer_tag, **kwargs
        )
        self._interrupt_pop()
        return result

    def _basic_cancel(self, consumer_tag: str) -> Any:
        self._tasks_wanted.pop(self._tag_to_queue.get(consumer_tag, ""), None)
        result = super()._basic_cancel(consumer_tag)
        self._interrupt_pop()
        return result

    def _unsubscribe_from(self, queue: str) -> None:
        """End a subscription; one on a connection that is lost has ended."""
        with suppress(*self._broken):
            super()._unsubscribe_from(queue)

    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        apply_global: bool = False,
    ) -> None:
        """Note Celery's prefetch count, which tells the slots where no option does.

        The pending pop is ended when it could bring more than that.
        """
        fewer = prefetch_count < self.qos.prefetch_count
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        if fewer:
            self._interrupt_pop()

    def close(self) -> None:
        """Close at once: the pending pop is ended, what it took goes back."""
        self._closing = True
        self._interrupt_pop()
        try:
            super().close()
        except self._broken:
            # A server that is away keeps the queues that were to go with the channel.
            # Celery may have let go of the connection that it asks what to ignore.
            self.auto_delete_queues.clear()
            super().close()

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the blocking pop over all queues, most urgent priority first."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues or not self.may_take():
            return
        connection = self.client.connection
        self._pop.identify(connection)
        keys = [
            self.global_keyprefix + self._q_for_pri(queue, priority)
            for priority in self.priority_steps
            for queue in queues
        ]
        seconds = self.brpop_timeout if timeout is None else timeout
        most = max(1, min(self._credit(), MAX_BATCH))
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        self._pop.send(connection, keys, seconds=seconds, most=most)

    def _brpop_read(self, **_: Any) -> bool:
        """Read the pop's reply and deliver the batch."""
        try:
            key, batch = self._read_batch(self.client.connection)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        queue = self.queue_of(key)
        self._queue_cycle.rotate(queue)
        wanted = self._tasks_wanted.get(queue)
        if self._is_to_go_back(queue, is_task=wanted is not None):
            self.push_back(key, batch)
            return True
        failure: BaseException | None = None
        for raw in batch:
            try:
                if wanted is None:
                    self._deliver_reply(queue, raw)
                else:
                    self._deliver_task(wanted, key, raw)
            except self._broken as exc:
                failure = exc
        if failure is not None:
            raise failure
        return True

    def _is_to_go_back(self, queue: str, *, is_task: bool) -> bool:
        if self._closing or queue not in self.active_queues:
            return True
        return is_task and not self.may_take()

    def _read_batch(self, connection: Any) -> tuple[str, list[bytes]]:
        name, batch = self._pop.read(connection)
        key = name.decode()[len(self.global_keyprefix) :]
        return key, batch if self._pop.takes_batches else self._more(key, batch)

    def _more(self, key: str, first: list[bytes]) -> list[bytes]:
        """Complete a batch on Redis 6.2, which blocks for one message only."""
        count = min(self._credit(), MAX_BATCH) - 1
        if count < 1:
            return first
        try:
            with self.conn_or_acquire() as client:
                return [*first, *(client.rpop(key, count) or ())]
        except (*self._broken, self.ResponseError):
            return first

    def _credit(self) -> int:
        return int(self.qos.credit())

    def _deliver_task(
        self, wanted: Callable[[TaskMessage], object], key: str, raw: bytes
    ) -> None:
        queue = self.queue_of(key)
        try:
            call = read_task_call(raw, accept=self.accept_tasks)
        except MalformedMessage as exc:
            self._put_aside(queue, raw, reason=exc.reason, why=str(exc))
            return
        tag = next(self._tags)
        message = TaskMessage(
            call, channel=self, tag=tag, queue=queue, key=key, raw=raw
        )
        self.qos.append(message, tag)
        try:
            wanted(message)
        except self._broken:
            raise
        except Exception as exc:
            logger.exception("Celery could not take a message")
            self.qos.ack(tag)
            self._put_aside(queue, raw, reason="refused", why=type(exc).__name__)

    def _deliver_reply(self, queue: str, raw: bytes) -> None:
        """Deliver what is no task: answers to remote control commands."""
        try:
            self.connection._deliver(loads(raw.decode()), queue)
        except self._broken:
            raise
        except Exception:
            logger.exception("reply dropped", extra={"queue": queue})

    @property
    def nobody_listens(self) -> bool:
        """Whether events of tasks are for nobody at present."""
        return self._listeners.are_absent(monotonic())

    def _put_fanout(
        self, exchange: str, message: Any, routing_key: str, **kwargs: Any
    ) -> None:
        """Publish, but not a flood of events that nobody listens to."""
        if exchange != EVENTS_EXCHANGE or kwargs.get("_publish_batch") is not None:
            super()._put_fanout(exchange, message, routing_key, **kwargs)
            return
        if self.nobody_listens:
            return
        with self.conn_or_acquire() as client:
            payload = dumps(message)
            topics = self._get_publish_topics(exchange, routing_key)
            heard = [client.publish(topic, payload) for topic in topics]
        self._listeners.note(heard=any(heard), now=monotonic())

    def _receive_one(self, c: Any) -> Any:
        """Deliver a broadcast; one that nobody can read must not stop the worker."""
        try:
            return super()._receive_one(c)
        except (Empty, *self._broken):
            raise
        except Exception:
            logger.exception("broadcast dropped")
            return None

    def _put_aside(self, queue: str, raw: bytes, *, reason: str, why: str) -> None:
        """Put garbage aside and count it, if Redis can; it is garbage."""
        self._quarantine.tell(queue, reason=reason, why=why)
        try:
            with self.conn_or_acquire() as client:
                self._quarantine.put(client, queue, raw, reason=reason)
        except (*self._broken, self.ResponseError):
            logger.exception("malformed message dropped", extra={"queue": queue})

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        if isinstance(message, TaskMessage):
            self.push_back(message.key, [message.raw], last=leftmost)
        else:
            virtual.Channel._restore(self, message)

    def push_back(
        self, key: str, batch: Sequence[bytes], *, last: bool = False
    ) -> None:
        """Return messages to their queue; if Redis cannot, the store rings again."""
        try:
            with self.conn_or_acquire() as client:
                (client.lpush if last else client.rpush)(key, *reversed(batch))
        except (*self._broken, self.ResponseError):
            facts = {"key": key, "messages": len(batch)}
            logger.warning("messages not returned to their queue", extra=facts)

    def _interrupt_pop(self) -> None:
        """End the pending pop, which serves queues or slots that are no longer so."""
        connection = self._in_poll
        if not connection:
            return
        try:
            if self._unblock(connection):
                self._brpop_read()
            else:
                connection.disconnect()
        except Empty:
            pass
        except (*self._broken, self.ResponseError):
            connection.disconnect()

    def _unblock(self, connection: Any) -> bool:
        """Have Redis answer the pop; tell whether its answer is about to come."""
        if self._pop.client_id is None:
            return False
        with self.conn_or_acquire() as client:
            return self._pop.end(connection, client)


class Transport(stock.Transport):  # type: ignore[misc]
    """Selected by Celery's setting `broker_transport`."""

    Channel = Channel
    brpop_timeout = POP_SECONDS


class SocketTransport(Transport):
    """For a unix socket: `socket://` reaches the channel unread."""

    can_parse_url = True
