"""Every command without a usable Redis: one sentence with the remedy, code 69, soon.

And `up` where it may not write.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from redis import Redis

from orchestrator.cli.group import run

COMMANDS = {
    "worker": ("worker",),
    "submit": ("submit", "researcher", "Who are you?"),
    "watch": ("watch", "t-1"),
    "tasks": ("tasks",),
    "show": ("show", "t-1"),
    "cancel": ("cancel", "t-1"),
    "resolve": ("resolve", "t-1", "c-1", "done"),
    "retry": ("retry", "t-1"),
    "schedules": ("schedules", "list"),
    "status": ("status",),
    "agents": ("agents",),
    "endpoints": ("endpoints",),
    "chat": ("chat", "researcher"),
    "conversations": ("conversations", "list"),
    "up": ("up",),
    "flower": ("flower",),
}


PROMISED_SECONDS = 5.0


@contextmanager
def nobody() -> Iterator[str]:
    """A port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"redis://:s3cret@127.0.0.1:{bound.getsockname()[1]}/0"


@contextmanager
def black_hole() -> Iterator[str]:
    """A server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@contextmanager
def within_promised_seconds() -> Iterator[None]:
    """Not counting those in which this process was ready and others were served."""
    began, starved = monotonic(), starved_seconds()
    yield
    took = monotonic() - began
    assert took - (starved_seconds() - starved) < PROMISED_SECONDS, took


def starved_seconds() -> float:
    """How long the main thread has waited for a processor; 0 where nothing counts."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert "s3cret" not in text
    return lines[0]


Refusal = Callable[[str, str], str]


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refusal:
    """Has a command find that a Redis is of no use; returns its sentence."""

    def run_with(url: str, name: str) -> str:
        monkeypatch.setenv("REDIS_URL", url)
        with within_promised_seconds():
            assert run(COMMANDS[name]) == 69
        return one_line(capsys.readouterr().err)

    return run_with


@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_listens(name: str, refusal: Refusal) -> None:
    with nobody() as url:
        assert "start it or set REDIS_URL" in refusal(url, name)


@pytest.mark.parametrize("name", ["worker", "submit"])
def test_a_server_that_says_nothing_is_given_up(name: str, refusal: Refusal) -> None:
    with black_hole() as url:
        assert "did not answer in time" in refusal(url, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_password(name: str, locked_redis: str, refusal: Refusal) -> None:
    assert "refuses the login" in refusal(locked_redis, name)


@pytest.fixture
def locked_redis(redis_url: str) -> Iterator[str]:
    """A user of the server, and another password than theirs."""
    with Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">right", "~*", "+@all")
        yield f"{redis_url}?username=guest&password=s3cret"
        client.execute_command("ACL", "DELUSER", "guest")


def test_a_stock_worker_says_it_before_celery_says_anything(tmp_path: Path) -> None:
    with nobody() as url:
        ended = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "workers", "worker"],
            cwd=tmp_path,
            env={
                **os.environ,
                "REDIS_URL": url,
                "CELERIAC_WORKER__STORE_PATIENCE": "10ms",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 69
    waiting, given_up = ended.stderr.splitlines()
    assert waiting == f"{given_up}; waiting 0.01 s for it"
    assert "start it or set REDIS_URL" in one_line(given_up)
    assert ended.stdout == ""


def test_up_names_a_state_directory_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(["up", "--state", str(tmp_path / "file" / "state")]) == 69
    said = one_line(capsys.readouterr().err)
    assert "file/state (Not a directory); choose another state directory" in said


def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".celeriac" / "redis.url").mkdir(parents=True)
    assert run(["up", "--no-http", "--no-flower"]) == 2
    said = one_line(capsys.readouterr().err)
    assert "redis.url: Is a directory; check the path" in said
