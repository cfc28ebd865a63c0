"""How a worker reaches its broker, and finds it again: soon, however long it was away.

Celery waits two seconds longer after each attempt, up to thirty, and has no setting for
it; a worker would stand idle for half a minute after Redis is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from celery.app.amqp import AMQP, Queues
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import get_transport_cls
from kombu.utils.url import maybe_sanitize_url

from orchestrator.errors import InvalidSettings
from orchestrator.redis_url import redact

_BY_SOCKET: Final = "workers.transport:SocketTransport"
_TRANSPORTS: Final = {
    "redis": "workers.transport:Transport",
    "rediss": "workers.transport:Transport",
    "redis+socket": _BY_SOCKET,
}
PAUSE_SECONDS: Final = 1
LONGEST_PAUSE_SECONDS: Final = 3


class PatientConnection(Connection):
    """Asks again after a short pause, for as long as it takes."""

    def __init__(self, hostname: Any = None, *args: Any, **kwargs: Any) -> None:
        """Connect to a URL as Celery's settings have it.

        kombu takes the `redis` of `redis+socket://` for the transport whatever else is
        chosen; without it the URL reaches our channel unread. Only here: Celery reads
        its settings also by kombu's own connection, to tell them to Flower.
        """
        if kwargs.get("transport") == _BY_SOCKET:
            hostname = hostname.removeprefix("redis+")
        super().__init__(hostname, *args, **kwargs)  # type: ignore[no-untyped-call]

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """What a worker takes for a lost connection and tries again.

        Its first messages on a new connection fail with kombu's own error, which is
        not among kombu's connection errors; the worker would end.
        """
        return (*super().connection_errors, OperationalError)

    def ensure_connection(self, *args: Any, **kwargs: Any) -> PatientConnection:
        """Connect; the pauses are ours unless the caller names others."""
        pauses = {
            "interval_start": PAUSE_SECONDS,
            "interval_step": PAUSE_SECONDS,
            "interval_max": LONGEST_PAUSE_SECONDS,
        }
        super().ensure_connection(*args, **(pauses | kwargs))  # type: ignore[no-untyped-call]
        return self

    def info(self) -> dict[str, Any]:
        """What a worker tells of its broker, in Flower too: without a login.

        For a unix socket kombu gives the whole address as `hostname`, and the other
        servers of several as `alternates`.
        """
        facts: dict[str, Any] = super().info()  # type: ignore[no-untyped-call]
        bare = {
            "hostname": maybe_sanitize_url(facts["hostname"]),
            "alternates": [redact(url) for url in facts["alternates"] or ()],
        }
        return facts | bare


class WorkerQueues(Queues):  # type: ignore[misc]
    """Celery's own, which know also later what a `-X` leaves out."""

    left_out: frozenset[str] = frozenset()

    def deselect(self, exclude: Sequence[str] | None) -> None:
        self.left_out |= frozenset(exclude or ())
        super().deselect(exclude)


class BrokerLink(AMQP):  # type: ignore[misc]
    """Celery's own, with connections and queues of this kind."""

    Connection = PatientConnection
    queues_cls = WorkerQueues


def check_broker(broker_url: str) -> None:
    """Refuse a broker that no worker can take from.

    Raises:
        InvalidSettings: kombu does not know it, or lacks a library for it.
    """
    scheme = broker_url.partition("://")[0].lower()
    if scheme in _TRANSPORTS:
        return
    try:  # kombu's one transport that is named before a plus
        get_transport_cls("sqla" if scheme.startswith("sqla+") else scheme)
    except Exception as exc:  # kombu's modules fail in their own ways
        raise InvalidSettings(
            [
                f"storage.broker_url: {scheme!r} is no broker that can be used here"
                f" ({type(exc).__name__}); write redis:// or amqp://, or install what"
                " kombu needs for it"
            ]
        ) from exc


def lean_broker(broker_url: str) -> dict[str, Any]:
    """Return the Celery settings that put a worker on this room's transport.

    They are the worker's alone: clients and Flower do as well on stock Redis. None for
    other brokers. It takes no more than there are slots, while what Celery counts for
    `worker_disable_prefetch` does not follow `celery control autoscale`.
    """
    scheme = broker_url.partition("://")[0]
    transport = _TRANSPORTS.get(scheme)
    if transport is None:
        return {}
    return {"broker_transport": transport, "worker_disable_prefetch": False}
