"""`celeriac up` and `celeriac demo`: what they start, and that nothing is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.cli_stand import (
    DOCUMENT,
    Run,
    answers,
    children_of,
    endpoint,
    is_alive,
    is_served,
    process,
)
from tests.stand import Stand, wait_until
from workers.llm.double_script import HttpReply
from workers.llm.reply_body import OWNER

pytestmark = pytest.mark.timeout(120)


def test_up_keeps_everything_running_until_it_is_stopped(
    stand: Stand, celeriac: Run
) -> None:
    state = stand.directory / ".celeriac"
    with process(stand, "up", "--no-flower", "--no-http", "-c", "2", redis=False) as (
        up,
        log,
    ):
        wait_until((state / "redis.url").exists, 20, log.read_text)
        url = (state / "redis.url").read_text()
        stand.redis_url = ""  # commands find the running one by themselves
        wait_until(lambda: is_served(celeriac), 30, log.read_text)
        wait_until(lambda: "WARNING: tasks will fail" in log.read_text(), 30)
        with process(stand, "up", "--no-flower", redis=False, log="second") as (
            second,
            refusal,
        ):
            assert second.wait(40) == 69, refusal.read_text()
        assert "another process runs a Redis in" in refusal.read_text()
        assert (state / "redis.url").exists()
        assert oct((state / "redis.url").stat().st_mode & 0o777) == "0o600"
        killed = worker_of(up.pid)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: worker_of(up.pid) not in (0, killed), 20, log.read_text)
        assert "worker-1 ended with code -9; starts again in 1 s" in log.read_text()
        children = children_of(up.pid)
        up.send_signal(signal.SIGTERM)
        assert up.wait(40) == 0, log.read_text()
    assert not answers(url)
    assert not [pid for pid in children if is_alive(pid)]
    assert not (state / "redis.url").exists()


def worker_of(pid: int) -> int:
    return child_of(pid, b"worker-1@")


def double_of(pid: int) -> int:
    return child_of(pid, b"workers.llm.double")


def child_of(pid: int, mark: bytes) -> int:
    for child in children_of(pid):
        command = Path(f"/proc/{child}/cmdline")
        if command.exists() and mark in command.read_bytes():
            return child
    return 0


@contextmanager
def scripted_up(stand: Stand) -> Iterator[tuple[subprocess.Popen[bytes], Path, str]]:
    """Yield `up --scripted`, its log and the address of its endpoint."""
    line = ("up", "--scripted", "--no-flower", "--no-http", "-c", "2")
    with process(stand, *line, redis=False) as (up, log):
        wait_until(lambda: "| ready: " in log.read_text(), 60, log.read_text)
        given = re.search(r"CELERIAC_LLM__BASE_URL=(\S+)", log.read_text())
        assert given is not None
        yield up, log, given[1]


def test_up_starts_its_scripted_endpoint_again_where_it_was(
    stand: Stand, celeriac: Run
) -> None:
    with scripted_up(stand) as (up, log, url):
        stand.redis_url = ""  # commands find the running one by themselves
        for pause in ("1", "2"):
            os.kill(killed := double_of(up.pid), signal.SIGKILL)
            told = f"endpoint ended with code -9; starts again in {pause} s"
            wait_until(lambda told=told: told in log.read_text(), 20, log.read_text)
            wait_until(lambda: page(f"{url}/models") != "", 20, log.read_text)
            assert double_of(up.pid) not in (0, killed)
        code, out, err = celeriac("submit", "assistant", "Where is A-17?")
        assert (code, bool(out.strip())) == (0, True), err
        children = children_of(up.pid)
        up.send_signal(signal.SIGTERM)
        assert up.wait(40) == 0, log.read_text()
    assert not [pid for pid in children if is_alive(pid)]
    assert "Traceback" not in log.read_text()


def test_up_ends_when_its_scripted_endpoint_has_lost_its_port(stand: Stand) -> None:
    with scripted_up(stand) as (up, log, url), socket.socket() as taker:
        os.kill(double_of(up.pid), signal.SIGKILL)
        wait_until(lambda: "endpoint ended" in log.read_text(), 20, log.read_text)
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", urlsplit(url).port))
        taker.listen()
        children = children_of(up.pid)
        assert up.wait(40) == 2, log.read_text()
    assert "endpoint ended with code 2, because it cannot take" in log.read_text()
    assert "cannot be used (Address already in use)" in log.read_text()
    assert not [pid for pid in children if is_alive(pid)]


@pytest.fixture
def documents(stand: Stand) -> Iterator[Path]:
    """A directory with documents, and a place for temporary files of its own."""
    (stand.directory / "docs").mkdir()
    (stand.directory / "docs" / "recovery.md").write_text(DOCUMENT)
    # In a short path: a socket of Redis lies there, which must not go elsewhere.
    with TemporaryDirectory(prefix="clc-") as temporary:
        stand.environment["TMPDIR"] = temporary
        yield Path(temporary)


def test_up_refuses_a_busy_flower_port_before_it_starts(
    stand: Stand, celeriac: Run
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        code, out, err = celeriac("up", "--flower-port", port)
    assert (code, out) == (2, "")
    assert f"{port} on 127.0.0.1 cannot be used" in err
    assert not (stand.directory / ".celeriac").exists()


def test_up_serves_the_agents_of_an_included_module_and_complains_of_nothing(
    stand: Stand, celeriac: Run, unused_tcp_port: int
) -> None:
    stand.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    module = stand.directory / "my_agents.py"
    module.write_text(
        "from orchestrator import AgentConfig\nfrom workers import extend\n\n\n"
        "@extend\ndef desk(manager, tools):\n"
        '    manager.register_agent(AgentConfig(name="desk"))\n'
    )
    line = (
        "up",
        "--flower-port",
        str(unused_tcp_port),
        "--no-http",
        "--scripted",
        "-c",
        "2",
        "-I",
        "my_agents",
    )
    with process(stand, *line, redis=False) as (up, log):
        wait_until(lambda: "| ready: " in log.read_text(), 60, log.read_text)
        stand.redis_url = ""  # commands find the running one by themselves
        assert "desk" in celeriac("agents")[1]
        given = re.search(r"started with: (.+) celeriac worker", log.read_text())
        assert given is not None
        beside = dict(each.split("=", 1) for each in given[1].split())
        models = httpx.get(f"{beside['CELERIAC_LLM__BASE_URL']}/models").json()
        assert models["data"][0]["owned_by"] == OWNER
        assert beside["CELERIAC_LLM__API_KEY"] == "null"
        code, out, err = celeriac("submit", "desk", "Where is A-17?")
        assert (code, bool(out.strip())) == (0, True), err
        workers = f"http://127.0.0.1:{unused_tcp_port}/api/workers"
        wait_until(lambda: "worker_concurrency" in page(workers), 60, log.read_text)
        assert "Traceback" not in log.read_text()
        assert "Inspect method" not in log.read_text()
        up.send_signal(signal.SIGHUP)
        assert up.wait(40) == 0, log.read_text()


def page(url: str) -> str:
    """Return what is at an address; nothing while it does not answer."""
    try:
        return httpx.get(url).text
    except httpx.HTTPError:
        return ""


def test_demo_without_redis_and_model_quotes_and_leaves_nothing(
    stand: Stand, documents: Path
) -> None:
    with process(stand, "demo", redis=False) as (demo, log):
        assert demo.wait(60) == 0, log.read_text()
    shown = log.read_text()
    assert "NO MODEL IS CALLED" in shown
    assert "no model answered" in shown
    assert "a private re" in shown
    assert "Citations" in shown
    assert "docs/recovery.md:3" in shown
    assert "Summaries: 1 of 1" in shown
    assert "Traceback" not in shown
    assert list(documents.iterdir()) == []


def test_demo_uses_an_endpoint_that_answers(
    stand: Stand, celeriac: Run, documents: Path
) -> None:
    with endpoint(stand, ["It is found. [docs/recovery.md:3]"] * 2) as double:
        code, out, err = celeriac("demo", "--question", "How is a task found?")
        assert code == 0, err
        assert double.unused == []
    assert "It is found." in out
    assert "Question  How is a task found?" in out


def test_demo_keeps_out_of_a_redis_that_is_in_use(
    stand: Stand, celeriac: Run, documents: Path
) -> None:
    assert celeriac("submit", "assistant", "x", "--detach")[0] == 0
    code, _, err = celeriac("demo")
    assert code == 2
    assert "is in use" in err


def test_demo_tells_when_a_task_fails(
    stand: Stand, celeriac: Run, documents: Path
) -> None:
    replies = [HttpReply(status=400, text="no") for _ in range(2)]
    with endpoint(stand, replies):
        code, out, _ = celeriac("demo")
    assert code == 1
    assert "Summaries: 0 of 1" in out
    assert "Everything that was started has been stopped." in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Redis ", "NO MODEL", "Worker "])
def test_an_interrupted_demo_leaves_nothing(
    stand: Stand, documents: Path, moment: str, number: signal.Signals
) -> None:
    never = HttpReply(hang=True)
    with (
        endpoint(stand, lambda _: never),
        process(stand, "demo", redis=False) as (demo, log),
    ):
        wait_until(lambda: moment in log.read_text(), 40, log.read_text)
        children = children_of(demo.pid)
        demo.send_signal(number)
        wait_until(lambda: "\nstopping\n" in log.read_text(), 10, log.read_text)
        assert demo.wait(30) == 130, log.read_text()
    assert children
    wait_until(lambda: not any(map(is_alive, children)), 20, log.read_text)
    assert list(documents.iterdir()) == []
    assert "Traceback" not in log.read_text()
