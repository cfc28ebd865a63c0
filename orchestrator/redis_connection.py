"""How the orchestrator reaches Redis, and what its errors become at the border.

No message, repr or error made here holds a password.
"""

from __future__ import annotations

import asyncio
import builtins
import ssl
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - the name that redis-py gives it
)
from redis.exceptions import ConnectionError as RedisConnectionError

from conversations.redis_errors import one_line, origin, tls_words, unreachable
from orchestrator.errors import (
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnreadable,
    WrongLoop,
)
from orchestrator.redis_url_options import NOT_OF_THE_URL, check_url_options

CONNECT_TIMEOUT_SECONDS: Final = 2.0
"""A server on the same network answers far sooner; a dead one is told early."""
HANDSHAKE_TIMEOUT_SECONDS: Final = 3.0
"""A server that takes connections and says nothing is told before a person gives up."""
COMMAND_TIMEOUT_SECONDS: Final = 5.0
"""A submit is answered within 5 s, whatever the server does."""
BLOCK_SLICE_SECONDS: Final = 2.0
"""Longest blocking read, well below the command timeout."""
MAX_CONNECTIONS: Final = 64
"""Commands are short; a thousand runs share these and wait their turn."""
POOL_WAIT_SECONDS: Final = 20.0
"""Longest wait for that turn; who must answer sooner has a deadline of its own."""
_RECONNECTS: Final = 2

UntypedRedis: TypeAlias = Any
"""A client of `connect`: redis-py types each answer as text, bytes or a coroutine."""

IS_CLUSTER: Final = (
    "is a cluster, whose scripts cannot span keys; use a single primary, with replicas"
    " if needed"
)
_BUSY: Final = "BUSY "
"""Whatever it is asked, while a script takes long."""
_TELLING_REPLIES: Final = {
    "WRONGTYPE": (
        "holds something else in place of one of our keys; find who else writes to them"
    ),
    _BUSY: "is kept busy by a script; if that is not ours, end it by SCRIPT KILL",
    "DB index": "has no database of that number; correct the end of REDIS_URL",
    "unknown command": (
        "is not Redis 6.2 or newer, or is a Sentinel; name the primary itself"
    ),
}
_READ_ONLY_REPLIES: Final = ("READONLY", "MISCONF", "NOREPLICAS")


def connect(
    url: str,
    *,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    command_timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
) -> Redis:
    """Return a client; nothing is sent before its first command.

    A lost connection is tried again, a slow command is not: scripts that are safe to
    repeat make the first harmless, and the caller's deadline forbids the second.
    There are no health checks: redis-py 8 recurses without end when one meets a server
    that wants a login, and a stale connection is found by the command itself.

    Raises:
        StoreUnavailable: the URL cannot be read, or names a file that is none.
    """
    try:
        pool = _LoopsPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_WAIT_SECONDS,
            socket_connect_timeout=connect_timeout_seconds,
            socket_timeout=command_timeout_seconds,
            retry=Retry(
                ExponentialBackoff(cap=0.5, base=0.05),
                _RECONNECTS,
                supported_errors=(RedisConnectionError,),
            ),
        )
    except ValueError:
        raise StoreUnavailable(
            f"the Redis URL ({len(url)} characters) cannot be read;"
            " write redis://host:port/0, rediss://host:port/0 or unix:///path"
        ) from None
    _prepare(pool, url)
    return Redis.from_pool(pool)


def _prepare(pool: BlockingConnectionPool, url: str) -> None:
    """Have a pool make connections of ours; refuse options that none can have."""
    made: UntypedRedis = pool
    try:
        pool.connection_class = _CANCELLABLE[pool.connection_class]
        pool.connection_kwargs.update(NOT_OF_THE_URL)
        made.make_connection()  # of its options; nothing is sent
    except (TypeError, AttributeError, KeyError, RedisError):
        raise StoreUnavailable(
            f"the Redis URL ({len(url)} characters) has an option after `?` that"
            " redis-py does not take so; leave it out, and write rediss:// for TLS,"
            " ssl_cert_reqs=none and not CERT_NONE"
        ) from None
    check_url_options(
        pool.connection_kwargs | {"timeout": pool.timeout},
        max_connections=pool.max_connections,
    )


def check_options(url: str) -> None:
    """Refuse a URL that no client can be made of; nothing is sent.

    Raises:
        StoreUnavailable: it cannot be read, or has an option that redis-py trips over.
    """
    connect(url)


class _LoopsPool(BlockingConnectionPool):
    """Tells another event loop, whose calls would fail as those of one that ended."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        self._belong_to(asyncio.get_running_loop())
        return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]

    async def disconnect(self, *args: Any, **options: Any) -> None:
        self._belong_to(asyncio.get_running_loop())
        await super().disconnect(*args, **options)
        self._loop = None

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            if self._loop is not None:
                raise WrongLoop
            self._loop = loop


class _Cancellable(AbstractConnection):
    """Connects and sends within limits, and never swallows a cancel.

    redis-py sends by `asyncio.wait_for`, which on Python 3.11 returns as if nothing
    were when the cancel comes together with the end; it makes a task a command, too.
    """

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_SECONDS):
                await super().on_connect_check_health(check_health=check_health)
        except builtins.TimeoutError:
            raise TimeoutError("Timeout in the handshake") from None

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health=check_health)
        except builtins.TimeoutError:
            raise TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = seconds


class _CancellableTCP(_Cancellable, Connection):
    """Over TCP."""


class _CancellableTLS(_Cancellable, SSLConnection):
    """Over TLS."""


class _CancellableUnix(_Cancellable, UnixDomainSocketConnection):
    """Over a unix socket."""


_CANCELLABLE: Final = {
    Connection: _CancellableTCP,
    SSLConnection: _CancellableTLS,
    UnixDomainSocketConnection: _CancellableUnix,
}


def take_over(
    connection: AbstractConnection, protocol: asyncio.BufferedProtocol
) -> tuple[asyncio.WriteTransport, asyncio.BaseProtocol]:
    """Have a protocol of ours read what a connection of redis-py receives from now on.

    Returns the transport, and the protocol that must still be told of its end.

    Raises:
        RedisConnectionError: it was lost before.
    """
    writer = connection._writer
    if writer is None:
        raise RedisConnectionError("Connection lost")
    transport = writer.transport
    former = transport.get_protocol()
    transport.set_protocol(protocol)
    return transport, former


def address_of(client: UntypedRedis) -> str:
    """Name the server as host:port or socket path, never with credentials."""
    facts = client.connection_pool.connection_kwargs
    if facts.get("path"):
        return str(facts["path"])
    return f"{facts.get('host', 'localhost')}:{facts.get('port', 6379)}"


class _StoreErrors(NamedTuple):
    """A generator would cost each of a run's many calls as much as their packing."""

    address: str

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        if isinstance(error, (RedisError, OSError, UnicodeError)):
            raise _as_store_error(error, self.address) from one_line(error)


def store_errors(address: str) -> AbstractContextManager[None]:
    """Turn every error of redis-py into the orchestrator's.

    Raises:
        StoreUnavailable: or one of its kinds.
    """
    return _StoreErrors(address)


async def read_each(
    client: UntypedRedis, commands: Sequence[Sequence[str]]
) -> list[Any]:
    """Send commands that change nothing, in one trip.

    The answer to one that failed on what it was to read is its error.

    Raises:
        RedisError: the others fail on it too.
    """
    try:
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
    except UnicodeError as exc:  # of one that redis-py does not name
        if len(commands) == 1:
            return [exc]
        half = len(commands) // 2
        former = await read_each(client, commands[:half])
        return former + await read_each(client, commands[half:])
    for answer in answers:
        if isinstance(answer, Exception) and not concerns_one_call(answer):
            raise answer
    return answers


def concerns_one_call(error: Exception) -> bool:
    """Whether a call failed on what it was made for, so that others need not."""
    if isinstance(error, UnicodeError):
        return True
    if not isinstance(error, ResponseError) or isinstance(error, NoPermissionError):
        return False
    told = _as_store_error(error, "")
    return type(told) is StoreUnavailable and not told.may_pass


def _as_store_error(error: Exception, address: str) -> StoreUnavailable:
    # redis-py drops the code from the text of an error that it has a class for.
    exc = origin(error)
    if isinstance(exc, UnicodeError):
        return StoreUnreadable(
            f"Redis at {address} holds what is no UTF-8 text in place of ours; find who"
            " else writes to our keys"
        )
    reply = str(exc)
    if isinstance(exc, OutOfMemoryError) or "OOM " in reply:
        return StoreFull(
            f"Redis at {address} is out of memory; raise maxmemory or shorten"
            " result_ttl"
        )
    if isinstance(exc, (ReadOnlyError, MasterDownError)) or any(
        code in reply for code in _READ_ONLY_REPLIES
    ):
        return StoreReadOnly(
            f"Redis at {address} refuses writes; point the URL at a primary whose"
            " disk has room"
        )
    error = StoreUnavailable(f"Redis at {address} {_reason(exc)}")
    error.may_pass = not _is_lasting(exc)
    return error


def _is_lasting(exc: BaseException) -> bool:
    """Whether only a person can change it; redis-py's classes say too little."""
    lasting = (InvalidResponse, ResponseError, ssl.SSLError)
    if isinstance(exc, BusyLoadingError) or _BUSY in str(exc):
        return False
    return isinstance(exc, lasting) or _refuses_login(exc) or "SSL" in str(exc)


def _refuses_login(exc: BaseException) -> bool:
    refusals = (AuthenticationError, AuthorizationError, NoPermissionError)
    return isinstance(exc, refusals) or any(
        code in str(exc) for code in ("WRONGPASS", "NOAUTH")
    )


def _reason(exc: BaseException) -> str:
    if _refuses_login(exc):
        return "refuses the login; check the user, the password and its permissions"
    if isinstance(exc, BusyLoadingError):
        return "is loading its data; try again shortly"
    if isinstance(exc, TimeoutError):
        return "did not answer in time; check the server and the network"
    if isinstance(exc, InvalidResponse):
        return "does not speak Redis; correct REDIS_URL"
    if isinstance(exc, (RedisConnectionError, OSError)):
        return tls_words(exc) or unreachable(exc)
    return _reason_of_reply(exc)


def _reason_of_reply(exc: BaseException) -> str:
    if isinstance(exc, (ClusterDownError, MovedError)):
        return IS_CLUSTER
    for words, reason in _TELLING_REPLIES.items():
        if words in str(exc):
            return reason
    return f"answered with {type(exc).__name__}; its log says more"
