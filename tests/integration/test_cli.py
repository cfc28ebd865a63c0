"""The command line against real workers, a real Redis and the scripted endpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import redis

from tests.integration.cli_stand import (
    Run,
    endpoint,
    is_served,
    process,
)
from tests.stand import Stand, wait_until
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)


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
    celeriac("submit", "assistant", "y", "--detach")
    pages, told = [], ""
    for _ in range(3):  # the task whose wait timed out goes on
        filtered = ("tasks", "--status", "pending", "--limit", "1", *told.split())
        _, page, told = celeriac(*filtered)
        pages.append(page)
        told = told.removeprefix("more: the same with ")
    assert (len(set(pages)), told) == (3, "")


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
        task_id = json.loads(celeriac("tasks", "--json")[1])["tasks"][0]["id"]
        code, out, err = celeriac("watch", task_id, "--json", "--timeout", "1s")
        types = [json.loads(line)["type"] for line in out.splitlines()]
        assert (code, types[-1]) == (124, "task.started")
        assert f"task {task_id} has not ended after 1s" in err


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
    assert "up --scripted" in out
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


def test_a_full_redis_is_found_by_doctor_and_told_in_one_line(
    stand: Stand, celeriac: Run
) -> None:
    with redis.Redis.from_url(stand.redis_url) as owner:
        owner.config_set("maxmemory", 1)
        try:
            code, out, _ = celeriac("doctor")
            refused = celeriac("submit", "assistant", "hi")
        finally:
            owner.config_set("maxmemory", 0)
    assert code == 69
    assert out.startswith("fail redis     Redis at /")
    assert "is out of memory; raise maxmemory" in out.splitlines()[0]
    assert refused[0] == 69
    assert refused[2].startswith("celeriac: Redis at /")
    assert refused[2].count("\n") == 1


@pytest.mark.parametrize("lacks", ["@write", "@scripting"])
def test_a_redis_that_lets_our_user_store_nothing_is_told_with_its_own_remedy(
    stand: Stand, celeriac: Run, lacks: str
) -> None:
    rights = f"on >pw ~* &* +@all -{lacks}"
    with redis.Redis.from_url(stand.redis_url) as owner:
        owner.execute_command("ACL", "SETUSER", "reader", *rights.split())
        stand.redis_url = stand.redis_url.replace("unix://", "unix://reader:pw@")
        try:
            code, out, _ = celeriac("doctor")
        finally:
            owner.execute_command("ACL", "DELUSER", "reader")
    assert code == 69
    assert out.startswith("fail redis     Redis at /")
    assert out.splitlines()[0].endswith("the user, the password and its permissions")
    assert "`celeriac up` starts" not in out


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
