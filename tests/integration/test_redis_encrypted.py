"""Redis over TLS: its certificate is checked, and what is in the clear is told."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from orchestrator import AsyncOrchestrator, load_settings
from orchestrator.celery_settings import celery_settings
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_check import in_the_clear
from orchestrator.redis_connection import connect
from tests.conftest import find_server
from tests.integration.redis_server import free_port
from tests.stand import wait_until

PASSWORD = "canary-password"  # noqa: S105


@dataclass
class Encrypted:
    """A Redis that speaks TLS alone."""

    port: int
    certificate: Path

    def url(self, host: str, *options: str) -> str:
        return f"rediss://:{PASSWORD}@{host}:{self.port}/0?{'&'.join(options)}"


@pytest.fixture(scope="module")
def encrypted(certificate: Path) -> Iterator[Encrypted]:
    program = find_server()
    assert program, "no Redis server found; install one"
    with tempfile.TemporaryDirectory(prefix="clc-") as name:
        port = free_port()
        command = [program, "--port", "0", "--dir", name]
        command += ["--bind", "127.0.0.1", "127.0.0.2"]
        command += ["--tls-port", str(port), "--tls-auth-clients", "no"]
        command += ["--tls-cert-file", str(certificate)]
        command += ["--tls-key-file", str(certificate)]
        command += ["--requirepass", PASSWORD, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        server = Encrypted(port, certificate)

        def answers() -> bool:
            if process.poll() is not None:
                pytest.skip("this Redis was built without TLS")
            url = server.url("127.0.0.1", "ssl_cert_reqs=none")
            with redis.Redis.from_url(url) as client:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

        try:
            wait_until(answers, 20)
            yield server
        finally:
            process.kill()
            process.wait()


async def submit(url: str) -> str:
    settings = load_settings(storage={"redis_url": url}, agents={})
    async with AsyncOrchestrator(settings) as celeriac:
        handle = await celeriac.submit("assistant", {"prompt": "hi"})
        return (await celeriac.get(handle.id)).status.value


async def test_a_task_goes_over_tls_to_a_server_that_is_vouched_for(
    encrypted: Encrypted,
) -> None:
    url = encrypted.url("127.0.0.1", f"ssl_ca_certs={encrypted.certificate}")
    assert await submit(url) == "pending"


@pytest.mark.parametrize("case", ["nobody vouches", "another name"])
async def test_a_certificate_that_does_not_fit_is_refused_and_tells_no_password(
    encrypted: Encrypted, case: str
) -> None:
    if case == "nobody vouches":
        url = encrypted.url("127.0.0.1")
    else:
        url = encrypted.url("127.0.0.2", f"ssl_ca_certs={encrypted.certificate}")
    with pytest.raises(StoreUnavailable) as refused:
        await submit(url)
    assert PASSWORD not in str(refused.value)
    assert "certificate" in str(refused.value).lower()


def connect_as_celery_does(url: str) -> None:
    """By kombu, as workers do, and clients whose broker is not the store."""
    with Celery(set_as_current=False) as app:
        app.conf.update(celery_settings(load_settings(storage={"redis_url": url})))
        with app.connection_for_write() as connection:
            connection.default_channel.client.ping()


@pytest.mark.parametrize(
    ("host", "vouched", "fits"),
    [
        ("127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("127.0.0.2", True, False),
    ],
)
def test_the_brokers_certificate_is_checked_too(
    encrypted: Encrypted, host: str, vouched: bool, fits: bool
) -> None:
    options = [f"ssl_ca_certs={encrypted.certificate}"] if vouched else []
    refusal = pytest.raises(OperationalError, match="certificate")
    with nullcontext() if fits else refusal:
        connect_as_celery_does(encrypted.url(host, *options))


def test_who_asks_for_no_check_of_the_brokers_certificate_has_none(
    encrypted: Encrypted,
) -> None:
    connect_as_celery_does(encrypted.url("127.0.0.1", "ssl_cert_reqs=none"))


async def test_no_login_is_sent_in_the_clear_to_a_server_that_speaks_tls(
    encrypted: Encrypted,
) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await submit(f"redis://:{PASSWORD}@127.0.0.1:{encrypted.port}/0")
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("redis://:secret@10.0.0.5:6379/0", True),
        ("redis://redis.example:6379", True),
        ("redis://[2001:db8::1]:6379/0", True),
        ("redis://127.0.0.1.evil.example/0", True),
        ("rediss://redis.example:6379", False),
        ("redis://127.0.0.1:6379/0", False),
        ("redis://localhost:6379/0", False),
        ("redis://[::1]:6379/0", False),
        ("unix:///run/redis.sock", False),
    ],
)
async def test_what_crosses_a_network_in_the_clear_is_told(
    url: str, clear: bool
) -> None:
    client = connect(url)
    assert in_the_clear(client) is clear
    await client.aclose()
