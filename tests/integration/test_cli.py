"""The command line against real workers, a real Redis and the scripted endpoint."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from orchestrator.cli.group import run
from orchestrator.embedded import redis_version
from orchestrator.errors import StoreUnavailable
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply, Script

pytestmark = pytest.mark.timeout(120)

Run = Callable[..., tuple[int, str, str]]
DOCUMENT = (
    "# Recovery\n\nA lost task is found again by the sweeper, which rings for it.\n"
    "The sweeper runs in every worker process and reads the due index of the store.\n"
    "A lease that is not renewed in time is taken back and the task runs again.\n"
)


@pytest.fixture
def celeriac(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line in this process, in the stand's directory."""
    monkeypatch.chdir(stand.directory)

    def run_line(*arguments: str) -> tuple[int, str, str]:
        for name in ("REDIS_URL", "OPENAI_BASE_URL"):
            monkeypatch.setenv(name, stand.variables()[name])
        code = run(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_line


@contextmanager
def endpoint(stand: Stand, script: Script | None = None) -> Iterator[Double]:
    """The scripted endpoint on a loop of its own."""
    loop = LoopThread("double")
    double = Double(script)
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    try:
        yield double
    finally:
        loop.await_(double.__aexit__(None, None, None))
        loop.close()


@contextmanager
def process(
    stand: Stand, *arguments: str, redis: bool = True, log: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command line as a process of its own, with its output in a file."""
    path = stand.directory / f"{log or arguments[0]}.log"
    environment = stand.variables()
    if not redis:
        del environment["REDIS_URL"]
    with path.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=stand.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running, path
    finally:
        if running.poll() is None:
            running.terminate()
        running.wait(40)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def children_of(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(word) for word in found.stdout.split()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answers(url: str) -> bool:
    try:
        redis_version(url)
    except StoreUnavailable:
        return False
    return True


def test_a_submitted_task_is_followed_listed_and_shown(
    stand: Stand, celeriac: Run
) -> None:
    with endpoint(stand, ["The answer is 42."]):
        stand.start_worker()
        code, out, err = celeriac(
            "submit", "assistant", "What is it?", "--conversation", "c1", "--tag", "t"
        )
        assert (code, out) == (0, "The answer is 42.\n")
        assert "completion 1" in err
        code, out, _ = celeriac("tasks", "--tag", "t", "--json")
        task_id = json.loads(out)["tasks"][0]["id"]
        assert code == 0
        assert task_id in celeriac("tasks", "--status", "completed")[1]
        assert celeriac("tasks", "--status", "failed")[1] == ""
        assert "The answer is 42." in celeriac("show", task_id)[1]
        shown = json.loads(celeriac("show", task_id, "--json")[1])
        assert shown["status"] == "completed"
        assert [step["kind"] for step in shown["steps"]] == ["completion"]
        code, out, _ = celeriac("watch", task_id)
        assert (code, out) == (0, "The answer is 42.\n")
        code, out, _ = celeriac("watch", task_id, "--json")
        events = [json.loads(line) for line in out.splitlines()]
        assert (code, events[-1]["type"]) == (0, "task.completed")
        code, out, _ = celeriac(
            "watch", task_id, "--json", "--after", str(events[-2]["sequence"])
        )
        assert [json.loads(out)["type"]] == ["task.completed"]
        code, out, _ = celeriac("conversations", "list", "--json")
        assert [c["id"] for c in json.loads(out)["conversations"]] == ["c1"]
        assert celeriac("conversations", "list")[1].startswith("c1\t2\t")
        assert "The answer is 42." in celeriac("conversations", "show", "c1")[1]
        _, out, _ = celeriac("conversations", "show", "c1", "--json")
        assert len(json.loads(out)["messages"]) == 2
        agents = json.loads(celeriac("agents", "--json")[1])
        assert {a["config"]["name"]: a["health"]["served"] for a in agents} == {
            "assistant": True,
            "researcher": True,
            "summarizer": True,
        }
        assert "assistant\tllm\t1\t1\t0" in celeriac("agents")[1]


def test_a_task_that_fails_ends_with_1(stand: Stand, celeriac: Run) -> None:
    stand.start_worker()
    options = ("--timeout", "30s")
    code, out, err = celeriac("submit", "summarizer", '{"document": 1}', *options)
    assert (code, out) == (1, "")
    assert "failed (invalid_input): input.document" in err.splitlines()[-1]
    code, out, _ = celeriac(
        "submit", "summarizer", '{"document": 1}', "--json", *options
    )
    assert code == 1
    assert json.loads(out)["failure"]["code"] == "invalid_input"


def test_without_a_worker_submit_warns_accepts_and_times_out(celeriac: Run) -> None:
    code, out, err = celeriac("submit", "assistant", "x", "--timeout", "200ms")
    assert (code, out) == (124, "")
    assert "no live worker serves agent 'assistant'" in err
    code, out, err = celeriac("submit", "assistant", "x", "--detach")
    assert code == 0
    assert err.count("\n") == 1
    task_id = out.strip()
    code, out, _ = celeriac("cancel", task_id)
    assert (code, out) == (0, f"{task_id}  cancelled\n")
    assert json.loads(celeriac("cancel", task_id, "--json")[1])["status"] == "cancelled"
    assert celeriac("watch", task_id)[0] == 1
    assert celeriac("watch", "task-none")[0] == 2
    _, out, _ = celeriac("submit", "assistant", "x", "--detach", "--json")
    assert json.loads(out)["status"] == "pending"


def test_a_warning_is_told_once(stand: Stand) -> None:
    with process(stand, "submit", "assistant", "x", "--detach") as (submit, log):
        assert submit.wait(30) == 0
    assert log.read_text().count("no live worker") == 1


def test_an_endpoint_that_is_not_there_is_told_at_once(
    stand: Stand, celeriac: Run
) -> None:
    stand.start_worker()
    code, _, err = celeriac("submit", "assistant", "x", "--timeout", "60s")
    assert code == 1, err
    assert "pending: again in" in err
    assert "no LLM endpoint answers at http://127.0.0.1:9/v1" in err


def test_a_wait_for_an_endpoint_that_hangs_ends_on_time(
    stand: Stand, celeriac: Run
) -> None:
    with endpoint(stand, [HttpReply(hang=True)]) as double:
        stand.start_worker()
        started = time.monotonic()
        code, _, err = celeriac("submit", "assistant", "x", "--timeout", "2s")
        assert code == 124, err
        assert time.monotonic() - started < 10
        assert "is still running after 2" in err
        assert double.requests


def test_ctrl_c_ends_the_waiting_and_not_the_task(stand: Stand, celeriac: Run) -> None:
    with process(stand, "submit", "assistant", "x") as (waiting, log):
        wait_until(lambda: "is accepted" in log.read_text(), 20)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(10) == 130
    task_id = json.loads(celeriac("tasks", "--json")[1])["tasks"][0]["id"]
    shown = log.read_text()
    assert f"celeriac watch {task_id}" in shown
    assert f"celeriac cancel {task_id}" in shown
    assert "Traceback" not in shown
    assert '"status": "pending"' in celeriac("show", task_id, "--json")[1]


def test_doctor_finds_what_is_missing_and_what_is_there(
    stand: Stand, celeriac: Run
) -> None:
    code, out, _ = celeriac("doctor", "--json")
    report = json.loads(out)
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (code, report["ok"]) == (69, False)
    assert states["workers"] == states["endpoint"] == "fail"
    assert states["redis"] == "warn"  # the tests' server keeps nothing on disk
    with endpoint(stand):
        stand.start_worker()
        code, out, _ = celeriac("doctor")
        assert code == 0
        assert "1 with 4 slots" in out
        assert "assistant, researcher, summarizer" in out
        assert "scripted, no model" in out
        assert "storage.redis_url\tunix://" in out


def test_doctor_without_redis_ends_with_69(stand: Stand, celeriac: Run) -> None:
    stand.redis_url = "unix:///nowhere/redis.sock"
    code, out, _ = celeriac("doctor")
    assert code == 69
    assert out.startswith("fail redis")
    stand.redis_url = "redis://127.0.0.1:1/0"
    stand.environment["CELERY_BROKER_URL"] = "redis://:pa55w0rd@127.0.0.1:1/0"
    assert "pa55w0rd" not in celeriac("doctor")[1]


def is_served(celeriac: Run) -> bool:
    return "assistant\tllm\t1\t" in celeriac("agents")[1]


def test_worker_runs_celery_with_its_options(stand: Stand, celeriac: Run) -> None:
    with process(stand, "worker", "-c", "3", "-n", "mine@%h") as (worker, log):
        wait_until(lambda: is_served(celeriac), 30, log.read_text)
        assert "mine@" in log.read_text()
        worker.terminate()
        assert worker.wait(20) == 0, log.read_text()


def test_double_serves_until_it_is_stopped(stand: Stand) -> None:
    with process(stand, "double", "--demo", "--port", "0") as (double, log):
        wait_until(lambda: "\n" in log.read_text(), 20, log.read_text)
        url = json.loads(log.read_text())["url"]
        with urlopen(f"{url}/models", timeout=5) as answer:  # noqa: S310
            assert b"celeriac-double" in answer.read()
        double.terminate()
        assert double.wait(10) == 0


def test_up_keeps_everything_running_until_it_is_stopped(
    stand: Stand, celeriac: Run, monkeypatch: pytest.MonkeyPatch
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
    for child in children_of(pid):
        command = Path(f"/proc/{child}/cmdline")
        if command.exists() and b"worker-1@" in command.read_bytes():
            return child
    return 0


@pytest.fixture
def documents(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with documents, and a place for temporary files of its own."""
    (stand.directory / "docs").mkdir()
    (stand.directory / "docs" / "recovery.md").write_text(DOCUMENT)
    temporary = stand.directory / "temporary"
    temporary.mkdir()
    stand.environment["TMPDIR"] = str(temporary)
    return temporary


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


def test_up_serves_the_agents_of_an_included_module(
    stand: Stand, celeriac: Run
) -> None:
    module = stand.directory / "my_agents.py"
    module.write_text(
        "from orchestrator import AgentConfig\nfrom workers import extend\n\n\n"
        "@extend\ndef desk(manager, tools):\n"
        '    manager.register_agent(AgentConfig(name="desk"))\n'
    )
    line = (
        "up",
        "--no-flower",
        "--no-http",
        "--scripted",
        "-c",
        "2",
        "-I",
        "my_agents",
    )
    with process(stand, *line) as (up, log):
        wait_until(lambda: "| ready: " in log.read_text(), 60, log.read_text)
        assert "desk" in celeriac("agents")[1]
        code, out, err = celeriac("submit", "desk", "Where is A-17?")
        assert (code, bool(out.strip())) == (0, True), err
        up.send_signal(signal.SIGHUP)
        assert up.wait(40) == 0, log.read_text()


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
    stand: Stand, celeriac: Run, documents: Path, monkeypatch: pytest.MonkeyPatch
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


def test_help_is_quick_and_loads_no_engine() -> None:
    script = (
        "import sys; from orchestrator.cli.group import run; run(['--help']);"
        "print([m for m in ('celery', 'redis', 'rich', 'pydantic_settings', 'workers')"
        " if m in sys.modules])"
    )
    started = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    ).stdout
    assert shown.splitlines()[-1] == "[]"
    assert time.monotonic() - started < 5


def test_a_reader_that_has_seen_enough_causes_no_noise() -> None:
    first, last = os.pipe()
    os.close(first)
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator", "config"],
        stdout=last,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(last)
    assert (ended.returncode, ended.stderr) == (0, b"")
