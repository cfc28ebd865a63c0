"""Run control from outside: fan-in, chains, retries, decisions, on a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from orchestrator import Orchestrator, TaskFailed, TaskStatus
from orchestrator.cli.group import run
from orchestrator.journal import StepKind, StepStart
from orchestrator.loop_thread import LoopThread
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim
from orchestrator.task import AwaitedCall
from tests.stand import Stand
from workers.llm.double import Double
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def celeriac(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line in this process, in the stand's directory."""
    monkeypatch.chdir(stand.directory)
    monkeypatch.setenv("REDIS_URL", stand.redis_url)

    def run_line(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_line


@pytest.fixture
def loop() -> LoopThread:
    loop = LoopThread("test")
    yield loop
    loop.close()


def test_what_comes_after_many_tasks_reads_their_answers(
    stand: Stand, loop: LoopThread
) -> None:
    double = Double(["one", "one", "joined", "last"])
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    stand.start_worker()
    with Orchestrator(stand.settings()) as orchestrator:
        ask = {"agent": "assistant", "input": {"prompt": "Count"}}
        *parts, joined, last = orchestrator.submit_many(
            [ask, ask],
            then=[
                {"agent": "assistant", "input": {"prompt": "Join"}},
                {"agent": "assistant", "input": {"prompt": "End"}},
            ],
        )
        assert last.result(timeout=30).content == "last"
        assert joined.get().after == tuple(part.id for part in parts)
        assert last.get().after == (joined.id,)
    prompts = [request.body["messages"][-1]["content"] for request in double.requests]
    results = json.loads(prompts[2])["results"]
    assert [each["content"] for each in results] == ["one", "one"]
    assert json.loads(prompts[3])["results"][0]["content"] == "joined"
    loop.await_(double.__aexit__(None, None, None))


def test_a_failed_part_fails_what_needs_it_and_failed_tasks_are_retried(
    stand: Stand, loop: LoopThread, celeriac: Run
) -> None:
    double = Double([HttpReply(status=400), "now it works", "joined now"])
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    stand.start_worker()
    ask = {"agent": "assistant", "input": {"prompt": "Count"}, "tags": ("part",)}
    with Orchestrator(stand.settings()) as orchestrator:
        part, joined = orchestrator.submit_many(
            [ask], then={"agent": "assistant", "input": {"prompt": "Join"}}
        )
        with pytest.raises(TaskFailed, match="needs its"):
            joined.result(timeout=30)
        mended = orchestrator.retry(joined.id)
        assert mended.result(timeout=30).content == "joined now"
        code, out, _ = celeriac("tasks", "--status", "failed", "--since", "1h")
        assert (code, part.id in out, joined.id in out) == (0, True, True)
        _, out, _ = celeriac("retry", "--all-failed", "--tag", "part", "--json")
        retried = json.loads(out)
        assert retried["task_id"] == part.id
        again = orchestrator.handle(retried["retried_as"])
        assert again.result(timeout=30).content == "now it works"
        assert again.id in celeriac("retry", part.id)[1]
        assert celeriac("retry")[0] == 2
        assert mended.get().after == (again.id,), "what it needs is retried before it"
        lonely = orchestrator.submit("assistant", {"prompt": "Join"}, after=["never"])
        with pytest.raises(TaskFailed, match="ended unknown"):
            lonely.result(timeout=30)
    loop.await_(double.__aexit__(None, None, None))


def test_a_call_with_an_unknown_outcome_is_shown_and_decided_on(
    stand: Stand, loop: LoopThread, celeriac: Run
) -> None:
    async def park(task_id: str) -> None:
        store = RedisTaskStore(connect(stand.redis_url))
        claimed = await store.claim(
            "default", task_id, worker="w", serves=["assistant"], lease_seconds=60
        )
        assert isinstance(claimed, Claim)
        start = StepStart(key="tool:1:c1", kind=StepKind.TOOL_CALL)
        await store.start_step(claimed.lease, start)
        call = AwaitedCall(call_id="1:c1", tool="pay", arguments={"cents": 5})
        await store.park(claimed.lease, [call], running_seconds=0)
        await store.aclose()

    with Orchestrator(stand.settings()) as orchestrator:
        task = orchestrator.submit("assistant", {"prompt": "Pay"})
        loop.await_(park(task.id))
        shown = celeriac("show", task.id)[1]
        assert 'pay {"cents": 5}' in shown
        assert f"celeriac resolve {task.id} 1:c1" in shown
        assert celeriac("resolve", task.id, "9:c9", "done")[0] == 2
        assert celeriac("resolve", task.id, "1:c1", "run", "--output", "x")[0] == 2
        code, out, _ = celeriac("resolve", task.id, "1:c1", "done", "--output", "[7]")
        assert (code, out) == (0, f"{task.id}  pending\n")
        assert task.status() is TaskStatus.PENDING


def test_a_schedule_of_an_agent_that_nobody_knows_is_warned_of(celeriac: Run) -> None:
    cron = ("--cron", "0 0 1 1 *")
    code, out, err = celeriac("schedules", "add", "yearly", "asistant", "Go", *cron)
    assert (code, out.split()[0]) == (0, "yearly")
    assert "each tick is refused while agent 'asistant' is not known; did you" in err
    assert celeriac("schedules", "add", "yearly", "assistant", "Go", *cron)[2] == ""
    listed = json.loads(celeriac("schedules", "list", "--json")[1])
    assert [schedule["id"] for schedule in listed] == ["yearly"]
    assert celeriac("schedules", "remove", "yearly")[0] == 0
    assert celeriac("schedules", "list", "--json")[1] == "[]\n"
