"""What only a real Redis can do to the task store: lose answers, fill up, refuse."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from conversations.redis_store import RedisConversationStore
from orchestrator.errors import (
    LeaseLost,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    TaskNotFound,
)
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.redis_connection import connect
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_keys import HISTORY, LEASES
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Ending, FirstStep, LastStep, TaskFilter
from orchestrator.task import Task, TaskStatus
from tests.conformance.losing_line import LosingLine
from tests.conformance.task_steps import (
    AGENT,
    WORKER,
    claim,
    completed,
    event_types,
    failed,
    running,
    submit,
    submitted,
    sweep_until,
    turn,
)

PROGRESS = NewEvent(type=EventType.PROGRESS, data={})


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="clc-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def line(clean_redis_url: str, directory: Path) -> AsyncIterator[LosingLine]:
    target = Path(clean_redis_url.removeprefix("unix://").partition("?")[0])
    async with LosingLine(target, directory / "line.sock") as line:
        yield line


@pytest.fixture
async def cut_store(line: LosingLine) -> AsyncIterator[RedisTaskStore]:
    """A store that has run its first script and can now lose an answer."""
    store = RedisTaskStore(connect(f"{line.url}?db=1"))
    await store.sweep()
    yield store
    assert line.lost == 1
    await store.aclose()


async def test_create_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    line.lose_next_answer()
    creation = await submit(cut_store, idempotency_key="k", conversation_id="c")
    assert creation.doorbells
    page = await cut_store.list("default", TaskFilter())
    assert [task.id for task in page.tasks] == [creation.task.id]
    assert len(await cut_store.events("default", creation.task.id)) == 2


async def test_claim_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    task = await submitted(cut_store, conversation_id="c")
    start = StepStart(key="completion:1", kind=StepKind.COMPLETION)
    line.lose_next_answer()
    found = await claim(cut_store, task, first=FirstStep(start, {AGENT}))
    assert (found.begun is not None, found.starts) == (True, ())
    assert found.begins_conversation
    lease = found.lease
    assert lease.fence == 1
    await cut_store.finish(lease, completed(lease), running_seconds=0)
    assert (await event_types(cut_store, task)).count("task.started") == 1


async def test_a_claim_is_found_again_after_more_losses_than_the_client_repeats(
    line: LosingLine, store: RedisTaskStore
) -> None:
    task = await submitted(store)
    cut = RedisTaskStore(connect(f"{line.url}?db=1"))
    await cut.sweep()
    line.lose_answers(12)
    lease = (await claim(cut, task)).lease
    assert (lease.fence, line.lost) == (1, 12)
    await cut.finish(lease, completed(lease), running_seconds=0)
    ended = await store.get("default", task.id)
    assert (ended.status, ended.crashes) == (TaskStatus.COMPLETED, 0)
    assert (await event_types(store, task)).count("task.started") == 1
    await cut.aclose()


async def test_a_claim_gives_up_once_its_lease_would_have_run_out(
    line: LosingLine, store: RedisTaskStore
) -> None:
    task = await submitted(store)
    cut = RedisTaskStore(connect(f"{line.url}?db=1"))
    await cut.sweep()
    line.lose_answers(1_000)
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await claim(cut, task, lease_seconds=0.5)
    await cut.aclose()


async def test_steps_and_events_are_safe_to_repeat_when_an_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    lease = await running(cut_store)
    line.lose_next_answer()
    await cut_store.append_events(lease, [PROGRESS, PROGRESS])
    step = Step(key="s", kind=StepKind.CUSTOM)
    await cut_store.record_step(lease, step, [PROGRESS])
    assert len(await cut_store.events("default", lease.task_id)) == 6


async def test_a_step_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    lease = await running(cut_store)
    line.lose_next_answer()
    step = Step(key="s", kind=StepKind.CUSTOM)
    assert (await cut_store.record_step(lease, step, [PROGRESS])).earlier is None
    (stored,) = await cut_store.steps("default", lease.task_id)
    assert stored.key == "s"
    assert len(await cut_store.events("default", lease.task_id)) == 4


async def test_release_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    lease = await running(cut_store)
    line.lose_next_answer()
    failure = failed().failure
    bells = await cut_store.release(
        lease, running_seconds=2, reason="retry", failure=failure
    )
    assert [bell.task_id for bell in bells] == [lease.task_id]
    task = await cut_store.get("default", lease.task_id)
    assert (task.failed_attempts, task.running_seconds) == (1, 2)


async def test_a_cancelling_release_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    lease = await running(cut_store, conversation_id="c")
    waiting = await submitted(cut_store, conversation_id="c")
    await cut_store.cancel("default", lease.task_id)
    line.lose_next_answer()
    bells = await cut_store.release(lease, running_seconds=2, reason="drain")
    assert [bell.task_id for bell in bells] == [waiting.id]


async def test_finish_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine, client: Redis
) -> None:
    lease = await running(cut_store, conversation_id="c")
    waiting = await submitted(cut_store, conversation_id="c")
    ending = Ending(status=TaskStatus.COMPLETED, turn=turn("hello"))
    await client.hget("warm", "up")
    line.lose_next_answer()
    last = LastStep(Step(key="s", kind=StepKind.CUSTOM), (PROGRESS,))
    bells = await cut_store.finish(lease, ending, running_seconds=2, last=last)
    assert [bell.task_id for bell in bells] == [waiting.id]
    task = await cut_store.get("default", lease.task_id)
    assert task.running_seconds == 2
    assert len(await cut_store.events("default", lease.task_id)) == 5
    conversations = RedisConversationStore(client)
    assert len(await conversations.read("default", "c")) == 1


async def test_cancel_is_safe_to_repeat_when_its_answer_was_lost(
    cut_store: RedisTaskStore, line: LosingLine
) -> None:
    lease = await running(cut_store)
    line.lose_next_answer()
    await cut_store.cancel("default", lease.task_id)
    pushed = await cut_store.wait_cancel_requests(WORKER, wait_seconds=5)
    assert pushed == (("default", lease.task_id),)


async def test_a_server_that_forgot_the_scripts_is_given_them_again(
    store: RedisTaskStore, client: Redis
) -> None:
    await submitted(store)
    await client.script_flush()
    creations = await store.create([Task(agent_name=AGENT) for _ in range(3)])
    assert len({creation.task.id for creation in creations}) == 3  # type: ignore[union-attr]


async def test_a_record_that_is_gone_leaves_the_fleets_sets(
    store: RedisTaskStore, client: Redis
) -> None:
    lost = (await claim(store, await submitted(store), lease_seconds=0.001)).lease
    kept = await submitted(store)
    await client.delete(f"celeriac:default:task:{lost.task_id}")
    await claim(store, kept, lease_seconds=0.001)
    await sweep_until(store, kept, TaskStatus.PENDING)
    assert await client.zcard(LEASES) == 0
    page = await store.list("default", TaskFilter())
    assert [task.id for task in page.tasks] == [kept.id]


async def test_a_turn_whose_keys_are_foreign_is_not_written_over(
    store: RedisTaskStore, client: Redis
) -> None:
    with pytest.raises(TaskNotFound):
        await store.get("default:task", "x")
    with pytest.raises(LeaseLost):
        await store.finish(
            (await running(store))._replace(fence=3), failed(), running_seconds=0
        )
    assert await client.keys("celeriac:default:conversation:*") == []


async def test_a_full_server_refuses_whole_and_serves_again(
    store: RedisTaskStore, client: Redis
) -> None:
    lease = await running(store, conversation_id="c")
    before = await store.get("default", lease.task_id)
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFull, match="maxmemory"):
            await submit(store)
        ending = Ending(status=TaskStatus.COMPLETED, turn=turn("hello"))
        with pytest.raises(StoreFull):
            await store.finish(lease, ending, running_seconds=1)
        assert await store.get("default", lease.task_id) == before
    finally:
        await client.config_set("maxmemory", 0)
    await store.finish(lease, ending, running_seconds=1)


async def test_a_full_server_still_forgets_ended_tasks(client: Redis) -> None:
    store = RedisTaskStore(client, result_ttl_seconds=0.001, resend_seconds=0.001)
    task = await submitted(store)
    await submitted(store)
    await store.cancel("default", task.id)
    await client.config_set("maxmemory", 1)
    try:
        async with asyncio.timeout(5):
            while await client.exists(f"celeriac:default:task:{task.id}"):
                with suppress(StoreFull):
                    await store.sweep()
    finally:
        await client.config_set("maxmemory", 0)


async def test_a_replica_is_refused_by_the_check_and_for_writes(
    store: RedisTaskStore, client: Redis
) -> None:
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreReadOnly, match="primary"):
            await submit(store)
        with pytest.raises(StoreUnavailable, match="replica"):
            await store.check()
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_server_that_evicts_keys_is_refused(
    store: RedisTaskStore, client: Redis
) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreUnavailable, match="noeviction"):
            await store.check()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("append", "sync", "durability"),
    [
        ("no", "everysec", "none"),
        ("yes", "everysec", "process"),
        ("yes", "always", "os"),
        ("yes", "no", "none"),
    ],
)
async def test_durability_follows_the_append_only_file(
    store: RedisTaskStore, client: Redis, append: str, sync: str, durability: str
) -> None:
    await client.config_set("appendfsync", sync)
    await client.config_set("appendonly", append)
    try:
        report = await store.check()
    finally:
        await client.config_set("appendonly", "no")
        await client.config_set("appendfsync", "everysec")
    assert report["durability"] == durability
    assert "warnings" not in report


async def test_a_wrong_password_is_told_without_showing_it(
    clean_redis_url: str,
) -> None:
    url = clean_redis_url.replace("unix://", "unix://someone:canary-secret@")
    store = RedisTaskStore(connect(url))
    with pytest.raises(StoreUnavailable, match="login") as refused:
        await submit(store)
    assert "canary" not in f"{refused.value}{refused.value.__cause__}"
    await store.aclose()


async def test_a_server_that_wants_a_password_is_told_soon(
    clean_redis_url: str, client: Redis
) -> None:
    store = RedisTaskStore(connect(clean_redis_url))
    await client.config_set("requirepass", "canary-secret")
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match="login"):
                await submit(store)
    finally:
        await client.config_set("requirepass", "")
        await store.aclose()


async def test_a_server_that_is_down_is_told_with_its_address(directory: Path) -> None:
    client = connect(f"unix://:canary-secret@{directory}/none.sock")
    for call in (
        RedisTaskStore(client).sweep(),
        RedisTaskStore(client).get("default", "task"),
        RedisTaskStore(client).check(),
        RedisAgentDirectory(client).agents(),
    ):
        with pytest.raises(
            StoreUnavailable, match=r"none\.sock cannot be reached \(No such file"
        ) as e:
            await call
        assert "canary" not in str(e.value)
    await client.aclose()


async def test_a_history_that_went_back_is_noticed_once_and_its_work_rung_again(
    store: RedisTaskStore, client: Redis
) -> None:
    other = RedisTaskStore(client)
    task = await submitted(store)
    for _ in range(3):
        for each in (store, other):
            assert not (await each.sweep()).went_back
    assert "warnings" not in await store.check()
    await client.hset(HISTORY, "count", 2)
    assert (await store.sweep()).went_back
    reports = [await each.sweep() for each in (store, other, store, other)]
    assert not any(report.went_back for report in reports)
    rung = [bell.task_id for report in reports for bell in report.doorbells]
    assert rung == [task.id]
    assert "history went back" in (await store.check())["warnings"]


async def test_an_emptied_store_is_a_history_that_went_back(
    store: RedisTaskStore, client: Redis
) -> None:
    await store.sweep()
    await client.delete(HISTORY)
    assert (await store.sweep()).went_back
    assert not (await store.sweep()).went_back
