"""What redis-py's errors become, and that nothing shows a password."""

from __future__ import annotations

import asyncio
import errno
import traceback
from errno import EACCES
from os import strerror
from pathlib import Path
from typing import NoReturn

import pytest
from redis import exceptions

from orchestrator.errors import (
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnreadable,
)
from orchestrator.redis_connection import (
    UntypedRedis,
    address_of,
    concerns_one_call,
    connect,
    store_errors,
)

BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or ..."


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (exceptions.OutOfMemoryError("used memory"), StoreFull, "maxmemory"),
        (
            exceptions.ResponseError("Error running script: -OOM command"),
            StoreFull,
            "maxmemory",
        ),
        (exceptions.ReadOnlyError("replica"), StoreReadOnly, "primary"),
        (exceptions.ResponseError("MISCONF disk"), StoreReadOnly, "disk"),
        (exceptions.ResponseError("NOREPLICAS"), StoreReadOnly, "writes"),
        (exceptions.AuthenticationError("x"), StoreUnavailable, "login"),
        (exceptions.NoPermissionError("x"), StoreUnavailable, "permissions"),
        (exceptions.BusyLoadingError("x"), StoreUnavailable, "loading"),
        (exceptions.ResponseError(BUSY), StoreUnavailable, "SCRIPT KILL"),
        (exceptions.ResponseError("WRONGTYPE of a key"), StoreUnavailable, "who else"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), StoreUnreadable, "writes"),
        (exceptions.InvalidResponse("HTTP"), StoreUnavailable, "speak Redis"),
        (exceptions.TimeoutError("x"), StoreUnavailable, "in time"),
        (exceptions.ConnectionError("x"), StoreUnavailable, "reached"),
        (ConnectionResetError("x"), StoreUnavailable, "reached"),
        (OSError(errno.EMFILE, "x"), StoreUnavailable, "ulimit -n"),
        (exceptions.ResponseError("odd"), StoreUnavailable, "ResponseError"),
        (exceptions.ClusterDownError("x"), StoreUnavailable, "is a cluster"),
        (exceptions.MasterDownError("x"), StoreReadOnly, "at a primary"),
        (exceptions.MovedError("1 h:1"), StoreUnavailable, "is a cluster"),
        (
            exceptions.ResponseError("DB index is out of range"),
            StoreUnavailable,
            "no database of that number",
        ),
        (
            exceptions.ResponseError("unknown command 'EVALSHA'"),
            StoreUnavailable,
            "Sentinel",
        ),
    ],
    ids=str,
)
def test_every_error_becomes_one_sentence_with_the_address(
    error: Exception, kind: type[StoreUnavailable], words: str
) -> None:
    with pytest.raises(kind, match=words) as mapped, store_errors("host:6379"):
        raise error
    assert type(mapped.value) is kind
    assert "host:6379" in str(mapped.value)
    assert repr(mapped.value.__cause__) == repr(error)


@pytest.mark.parametrize(
    ("error", "may_pass", "concerns_one"),
    [
        (exceptions.ResponseError("WRONGTYPE not a hash"), False, True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), False, True),
        (exceptions.ResponseError(BUSY), True, False),
        (exceptions.BusyLoadingError("x"), True, False),
        (exceptions.NoPermissionError("x"), False, False),
        (exceptions.ReadOnlyError("x"), False, False),
    ],
    ids=str,
)
def test_what_all_are_told_is_no_fault_of_one_call(
    error: Exception, may_pass: bool, concerns_one: bool
) -> None:
    """A listing would take those out of whose records it is told that Redis is busy."""
    with pytest.raises(StoreUnavailable) as mapped, store_errors("host:6379"):
        raise error
    assert mapped.value.may_pass is may_pass
    assert concerns_one_call(error) is concerns_one


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:canary@127.0.0.1:{port}/0", "Connection refused"),
        ("unix:///nowhere/redis.sock?password=canary", "No such file or directory"),
    ],
)
async def test_what_could_not_be_reached_says_why_in_a_short_traceback(
    url: str, words: str, unused_tcp_port: int
) -> None:
    client = connect(url.format(port=unused_tcp_port))
    said = pytest.raises(StoreUnavailable, match=rf"reached \({words}\)")
    with said as told, store_errors("host:6379"):
        await client.ping()
    await client.aclose()
    shown = "".join(traceback.format_exception(told.value))
    assert "redis.exceptions.ConnectionError: Error" in shown
    assert "site-packages" not in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:canary@example:6380/2", "example:6380"),
        ("redis://:canary@example", "example:6379"),
        ("unix://user:canary@/run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
async def test_an_address_shows_no_credentials(url: str, address: str) -> None:
    client = connect(url)
    assert address_of(client) == address
    assert "canary" not in repr(client)
    await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:canary@example",
        "redis://user:canary@example?ssl=1",
        "redis://user:canary@example?socket_timeout=canary",
        "redis://user:canary@example?retry=canary",
        "redis://user:canary@example?connection_class=canary",
        "rediss://user:canary@example?ssl_cert_reqs=CERT_NONE",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="rediss://") as refused:
        connect(url)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancel_is_never_swallowed(clean_redis_url: str, steps: int) -> None:
    client = connect(clean_redis_url)
    is_over = False

    async def ask_on() -> None:
        while not is_over:
            await client.ping()

    for _ in range(4):
        await client.ping()
        asking = asyncio.create_task(ask_on())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking}, timeout=0.5)
        is_over = True
        await asyncio.wait({asking}, timeout=20)
        assert asking.cancelled()
        is_over = False
    await client.aclose()


async def test_a_url_does_not_change_how_answers_are_read() -> None:
    options = "protocol=3&decode_responses=no&encoding=utf-16&health_check_interval=1"
    client: UntypedRedis = connect(f"redis://host/0?{options}&socket_timeout=1")
    facts = client.connection_pool.connection_kwargs
    assert facts["protocol"] == 2
    assert facts["decode_responses"] is True
    assert facts["encoding"] == "utf-8"
    assert facts["health_check_interval"] == 0
    assert facts["socket_timeout"] == 1
    await client.aclose()


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_of_certificates_that_is_not_there_is_named(option: str) -> None:
    with pytest.raises(StoreUnavailable, match=f"{option} .* names /gone.pem") as no:
        connect(f"rediss://user:canary@example/0?{option}=/gone.pem")
    assert not no.value.may_pass
    assert "canary" not in str(no.value)


def test_a_file_of_certificates_that_cannot_be_looked_for_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(StoreUnavailable, match=r"names /secret/ca\.pem, which"):
        connect("rediss://example/0?ssl_ca_certs=/secret/ca.pem")


def forbidden(_: Path) -> NoReturn:
    raise PermissionError(EACCES, strerror(EACCES))


def test_a_single_connection_is_too_few() -> None:
    with pytest.raises(StoreUnavailable, match=r"max_connections .* must be 2 or more"):
        connect("redis://example/0?max_connections=1")
    connect("redis://example/0?max_connections=2")
