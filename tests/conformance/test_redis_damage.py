"""What something else has written in place of our keys gets a named outcome."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from conversations.errors import ConversationUnreadable
from conversations.redis_store import RedisConversationStore
from orchestrator import redis_keys
from orchestrator.budget import Account, Amount
from orchestrator.dues import Admitted, Dues, Entry, Hold, Needs
from orchestrator.errors import StoreUnavailable, StoreUnreadable, UnreadableRecord
from orchestrator.events import EventType, NewEvent
from orchestrator.gate import Caller, CallOutcome, Departure, GateLimits
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_store import RedisTaskStore
from orchestrator.schedule import Schedule
from orchestrator.store import LeaseState, RefusalReason, TaskFilter
from orchestrator.task import Task, TaskStatus, Usage
from tests.conformance.conversation_steps import created
from tests.conformance.task_steps import (
    WORKER,
    claim,
    completed,
    event_types,
    submitted,
    sweep_until,
    try_claim,
    until,
    worker,
)

STEP = Step(key="completion:1", kind=StepKind.COMPLETION, outcome={"content": "hi"})
NO_TEXT = b"\xff\xfe"
UNREADABLE: dict[str, tuple[str, str | bytes]] = {
    "no text": ("more", NO_TEXT),
    "instant beyond all years": ("created_ms", "9" * 30),
    "instant beyond all numbers": ("started_ms", "9" * 400),
    "seconds beyond all numbers": ("running_ms", "9" * 400),
    "deep JSON": ("failure", "[" * 100_000),
    "deadline that is no number": ("deadline_at_ms", "soon"),
}
MINE = Schedule(id="mine", cron="* * * * *", task=Task(agent_name="a"))
PROGRESS = NewEvent(type=EventType.PROGRESS, data={})


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client)


async def replace_log(client: Redis, task: Task, *, by: str) -> str:
    log = redis_keys.log(task.tenant, task.id)
    await client.delete(log)
    if by == "string":
        await client.set(log, "foreign")
    else:
        await client.xadd(log, {"foreign": "1"})
    return log


async def replace_record(client: Redis, task: Task) -> None:
    record = redis_keys.record(task.tenant, task.id)
    await client.delete(record)
    await client.set(record, "foreign")


@pytest.mark.parametrize("by", ["string", "stream"])
async def test_a_foreign_event_log_is_put_aside_and_the_task_ends(
    store: RedisTaskStore, client: Redis, by: str
) -> None:
    task = await submitted(store)
    log = await replace_log(client, task, by=by)
    lease = (await claim(store, task)).lease
    await store.record_step(lease, STEP, [PROGRESS])
    await store.finish(lease, completed(lease), running_seconds=0)
    assert (await store.get(task.tenant, task.id)).status is TaskStatus.COMPLETED
    assert (await event_types(store, task))[-1] == "task.completed"
    assert await client.pttl(f"{log}:foreign") > 0


async def test_a_run_whose_event_log_is_replaced_is_taken_back_and_cancelled(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    await claim(store, task, lease_seconds=0.01)
    await replace_log(client, task, by="string")
    await sweep_until(store, task, TaskStatus.PENDING)
    await replace_log(client, task, by="string")
    assert (await store.cancel("default", task.id)).task.status is TaskStatus.CANCELLED
    assert await event_types(store, task) == ["task.cancelled"]


async def test_a_task_whose_journal_is_foreign_fails_and_is_not_done_again(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    await client.set(redis_keys.journal(task.tenant, task.id), "foreign")
    assert await try_claim(store, task) is RefusalReason.ENDED
    ended = await store.get(task.tenant, task.id)
    assert ended.status is TaskStatus.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "damaged"
    assert "journal is a string" in ended.failure.message


async def test_what_stands_in_place_of_a_record_leaves_the_fleets_sets(
    store: RedisTaskStore, client: Redis
) -> None:
    pending, running = await submitted(store), await submitted(store)
    await claim(store, running, lease_seconds=0.01)
    for task in (pending, running):
        await replace_record(client, task)
    await client.zadd(redis_keys.DUE, {f"default {pending.id}": 0})
    await client.zadd(redis_keys.LEASES, {f"default {running.id}": 0})
    await store.sweep()
    assert await client.zcard(redis_keys.DUE) == 0
    assert await client.zcard(redis_keys.LEASES) == 0


async def test_doorbells_that_came_with_what_cannot_be_read_are_rung_by_a_sweep(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, dispatch_window=1)
    unread, waits = await submitted(store), await submitted(store)
    journal = redis_keys.journal(unread.tenant, unread.id)
    await client.hset(journal, "completion:1", "from another release")
    assert await try_claim(store, unread) is RefusalReason.UNKNOWN_SCHEMA
    assert [bell.task_id for bell in (await store.sweep()).doorbells] == [waits.id]


async def test_what_stands_in_place_of_a_record_keeps_no_other_webhook(
    store: RedisTaskStore, client: Redis
) -> None:
    foreign, whole = [
        await submitted(store, webhook="https://hooks.example.com/") for _ in range(2)
    ]
    for task in (foreign, whole):
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease), running_seconds=0)
    await replace_record(client, foreign)
    await client.zadd(redis_keys.WEBHOOKS, {"foreign": 0})
    taken = await store.take_webhooks(
        limit=10, lease_seconds=30, most_each=8, places={}
    )
    assert [each.task_id for each in taken.due] == [whole.id]
    assert await client.zcard(redis_keys.WEBHOOKS) == 1


@pytest.mark.parametrize("damage", ["string", "no attempt"])
async def test_what_stands_in_place_of_a_record_costs_no_other_lease(
    store: RedisTaskStore, client: Redis, damage: str
) -> None:
    foreign, whole = await submitted(store), await submitted(store)
    leases = [(await claim(store, task)).lease for task in (foreign, whole)]
    if damage == "string":
        await replace_record(client, foreign)
    else:
        await client.hdel(redis_keys.record("default", foreign.id), "attempt")
    states = await store.renew(leases, lease_seconds=30)
    assert states == (LeaseState.LOST, LeaseState.HELD)
    await store.surrender(leases, blamed=None)
    await client.zadd(redis_keys.LEASES, {"foreign": "+inf"})
    assert await store.bury("another") == 0
    await sweep_until(store, whole, TaskStatus.PENDING)


@pytest.mark.parametrize("by", ["string", "stream"])
async def test_who_reads_a_foreign_event_log_is_told_so(
    store: RedisTaskStore, client: Redis, by: str
) -> None:
    task = await submitted(store)
    await replace_log(client, task, by=by)
    with pytest.raises(StoreUnavailable):
        await store.events(task.tenant, task.id)


async def test_what_stands_in_place_of_a_record_spoils_no_listing_and_no_figures(
    store: RedisTaskStore, client: Redis
) -> None:
    foreign, whole = await submitted(store), await submitted(store)
    await replace_record(client, foreign)
    assert [*await store.oldest_due("default")] == [whole.agent_name]
    page = await store.list("default", TaskFilter())
    assert [task.id for task in page.tasks] == [whole.id]


async def test_events_of_kinds_that_only_a_newer_release_knows_are_left_out(
    store: RedisTaskStore, client: Redis
) -> None:
    lease = (await claim(store, await submitted(store))).lease
    known = await store.events("default", lease.task_id)
    log, record = (
        redis_keys.log("default", lease.task_id),
        redis_keys.record("default", lease.task_id),
    )
    facts = {"type": "task.dreamt", "attempt": "1", "at_ms": "1", "data": "{}"}
    for number in range(3):
        await client.xadd(log, facts, id=f"0-{len(known) + 1 + number}")
    await client.hincrby(record, "events", 3)
    last = known[-1].sequence
    read = await store.events("default", lease.task_id, after=last, limit=2)
    assert read == ()
    await store.append_events(lease, [PROGRESS])
    (told,) = await store.events("default", lease.task_id, after=last, limit=2)
    assert (told.type, told.sequence) == (EventType.PROGRESS, last + 4)


async def test_a_status_of_a_newer_release_is_told_to_who_reads_events(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    await client.hset(redis_keys.record("default", task.id), "status", "dreaming")
    with pytest.raises(UnreadableRecord):
        await store.events("default", task.id)


async def test_what_cannot_be_counted_keeps_no_task_from_its_end(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    health, metrics = redis_keys.health(task.agent_name), redis_keys.metrics("default")
    for key in (health, metrics):
        await client.delete(key)
        await client.set(key, "foreign")
    lease = (await claim(store, task)).lease
    await store.record_step(lease, STEP, [PROGRESS])
    await store.finish(lease, completed(lease), running_seconds=0)
    types = await event_types(store, task)
    assert types[-2:] == ["task.progress", "task.completed"]
    assert await client.zcard(redis_keys.LEASES) == 0


async def test_a_counter_that_is_no_number_hides_none_of_the_others(
    store: RedisTaskStore, client: Redis
) -> None:
    await submitted(store)
    await client.hset(redis_keys.metrics("default"), "dropped", "x")
    await client.hset(redis_keys.SLOTS, "other", "x")
    counters = await store.counters("default")
    assert sum(counters.by_labels("tasks", 2).values()) == 1
    assert [queue.name for queue in await store.queues()] == ["celeriac"]


@pytest.mark.parametrize("damage", ["string", "no tokens", "no reservation", "gate"])
async def test_a_step_whose_dues_cannot_be_paid_is_recorded_all_the_same(
    store: RedisTaskStore, client: Redis, damage: str
) -> None:
    """Else the run would pay for the same completion again and again."""
    lease = (await claim(store, await submitted(store))).lease
    account = Account(kind="task", name=lease.task_id, max_tokens=1000)
    caller = Caller(token="c", tenant="default", task_id=lease.task_id, tokens=9)  # noqa: S106
    needs = Needs(
        Entry("g", GateLimits(in_flight=1), caller),
        Hold("default", "c", (account,), Amount(9)),
    )
    start = StepStart(key=STEP.key, kind=StepKind.COMPLETION)
    admitted = await store.admit_step(lease, start, needs)
    assert isinstance(admitted, tuple), admitted
    held = admitted[0]
    assert isinstance(held, Admitted)
    key = redis_keys.budget("default", "task", lease.task_id)
    if damage == "gate":
        key = f"{redis_keys.gate('g')}:permits"
    if damage in ("string", "gate"):
        await client.delete(key)
        await client.set(key, "foreign")
    else:
        await client.hset(
            key, "open:c" if damage == "no reservation" else "tokens", "x"
        )
    answered = Departure(CallOutcome.ANSWERED, tokens=5)
    dues = Dues(held.permit, answered, held.reservation, Amount(5))
    await store.record_step(lease, STEP, [PROGRESS], dues=dues)
    assert len(await store.steps("default", lease.task_id)) == 1


async def test_a_worker_is_buried_though_the_record_of_one_of_its_runs_is_damaged(
    store: RedisTaskStore, client: Redis
) -> None:
    damaged, task = [await submitted(store) for _ in range(2)]
    for each in (damaged, task):
        await claim(store, each)
    record = redis_keys.record("default", damaged.id)
    await client.hset(record, "lease_until_ms", "x")
    assert await store.bury(WORKER) == 1
    await sweep_until(store, task, TaskStatus.PENDING)


async def test_a_queue_that_is_damaged_keeps_no_other_from_being_swept(
    client: Redis,
) -> None:
    names = [f"queue-{number}" for number in range(8)]
    store = RedisTaskStore(client, dispatch_window=1)
    for name in names:
        for _ in range(2):
            await submitted(store, queue=name)
        await client.delete(redis_keys.rung(name))
        assert await client.zcard(redis_keys.ready(name)) == 1
    damaged = redis_keys.rung(names[0])
    await client.delete(damaged)
    await client.set(damaged, "foreign")
    rung = {bell.queue for bell in (await store.sweep()).doorbells}
    assert rung == set(names[1:])


async def test_a_number_that_no_counter_holds_is_left_out(
    store: RedisTaskStore, client: Redis
) -> None:
    lease = (await claim(store, await submitted(store))).lease
    usage = Usage(input_tokens=2**70, output_tokens=7)
    step = STEP.model_copy(update={"name": "m", "usage": usage})
    await store.record_step(lease, step, [PROGRESS])
    (kept,) = await store.steps("default", lease.task_id)
    assert kept.usage == usage
    counters = await store.counters("default")
    assert counters.by_labels("tokens", 2) == {("output", "m"): 7}
    types = await event_types(store, await store.get("default", lease.task_id))
    assert types[-1] == "task.progress"


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_a_record_that_cannot_be_read_is_given_back_uncharged(
    store: RedisTaskStore, client: Redis, damage: tuple[str, str | bytes]
) -> None:
    task = await submitted(store)
    record = redis_keys.record("default", task.id)
    await client.hset(record, *damage)
    refused = await try_claim(store, task)
    assert refused is RefusalReason.UNKNOWN_SCHEMA
    status, crashes, reason = await client.hmget(
        record, "status", "crashes", "pending_reason"
    )
    assert (status, crashes) == ("pending", None)
    assert "find who else writes to our keys" in reason
    assert await client.zcard(redis_keys.LEASES) == 0
    assert await client.zscore(redis_keys.DUE, f"default {task.id}") is not None


async def test_a_journal_that_is_no_text_is_given_back(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    await client.hset(redis_keys.journal("default", task.id), "completion:1", NO_TEXT)
    assert await try_claim(store, task) is RefusalReason.UNKNOWN_SCHEMA
    assert (await store.get("default", task.id)).status is TaskStatus.PENDING


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_a_record_that_cannot_be_read_spoils_no_listing_and_no_figures(
    store: RedisTaskStore, client: Redis, damage: tuple[str, str | bytes]
) -> None:
    bad, whole = await submitted(store), await submitted(store)
    await client.hset(redis_keys.record("default", bad.id), *damage)
    await client.hset(redis_keys.record("default", bad.id), "due_ms", "soon")
    for _ in range(2):  # it is left out, and stays where it is listed
        page = await store.list("default", TaskFilter())
        assert whole.id in {task.id for task in page.tasks}
    assert await client.zcard(redis_keys.listing("default")) == 2
    assert [*await store.oldest_due("default")] == [whole.agent_name]


async def test_who_reads_what_is_no_text_is_told_so(
    store: RedisTaskStore, client: Redis
) -> None:
    task = await submitted(store)
    await client.hset(redis_keys.record("default", task.id), "spec", NO_TEXT)
    with pytest.raises(StoreUnreadable, match="find who else writes to our keys"):
        await store.get("default", task.id)
    with pytest.raises(StoreUnreadable):
        await store.cancel("default", task.id)


@pytest.mark.parametrize("field", ["agent", "queue", "traceparent"])
async def test_what_is_no_text_keeps_no_other_task_from_being_swept(
    store: RedisTaskStore, client: Redis, field: str
) -> None:
    bad, whole = await submitted(store), await submitted(store)
    await client.hset(redis_keys.record("default", bad.id), field, NO_TEXT)
    await client.delete(redis_keys.rung("celeriac"))
    for task in (bad, whole):
        await client.zadd(redis_keys.DUE, {f"default {task.id}": 0})
    bells = (await store.sweep()).doorbells
    assert [bell.task_id for bell in bells] == [whole.id]


async def test_an_end_that_is_no_text_keeps_no_other_from_being_forgotten(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    bad, whole = await submitted(store), await submitted(store)
    for task in (bad, whole):
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease), running_seconds=0)
    await client.hset(redis_keys.record("default", bad.id), "spec", NO_TEXT)
    for task in (bad, whole):
        await client.zadd(redis_keys.ENDED, {f"default {task.id}": 0})
    await store.sweep()
    assert await client.zcard(redis_keys.ENDED) == 0


async def test_who_reads_a_conversation_that_is_no_text_is_told_so(
    client: Redis,
) -> None:
    conversations = RedisConversationStore(client)
    talk = await created(conversations)
    await client.hset(
        f"celeriac:{talk.tenant}:conversation:{talk.id}", "metadata", NO_TEXT
    )
    with pytest.raises(ConversationUnreadable, match="writes to our keys"):
        await conversations.get(talk.tenant, talk.id)


@pytest.mark.parametrize("damage", ["string", "attempt"])
async def test_a_claim_that_fails_on_its_record_does_not_insist_on_it(
    store: RedisTaskStore, client: Redis, damage: str
) -> None:
    """A slot is kept as long: it may have been served, so it is asked for twice."""
    task = await submitted(store)
    if damage == "string":
        await replace_record(client, task)
    else:
        await client.hset(redis_keys.record("default", task.id), "attempt", "x")
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await try_claim(store, task, lease_seconds=30)


@pytest.mark.parametrize(
    "damage",
    [None, {"successes": "x"}, {"last_failure_ms": "9" * 30}, {"more": NO_TEXT}],
)
async def test_an_agent_is_found_though_its_health_cannot_be_read(
    client: Redis, damage: dict[str, str | bytes] | None
) -> None:
    directory = RedisAgentDirectory(client)
    await directory.announce(worker("a", "b"), ttl_seconds=30)
    await client.hset(redis_keys.health("b"), "successes", "7")
    if damage is None:
        await client.set(redis_keys.health("a"), "foreign")
    else:
        await client.hset(redis_keys.health("a"), mapping=damage)
    found = await directory.find("a")
    assert found is not None
    assert (found.health.workers, found.health.successes) == (1, 0)
    healths = [info.health.successes for info in await directory.agents()]
    assert healths == [0, 7]


async def test_a_webhook_that_is_no_text_keeps_no_other(
    store: RedisTaskStore, client: Redis
) -> None:
    bad, whole = [
        await submitted(store, webhook="https://hooks.example.com/") for _ in range(2)
    ]
    for task in (bad, whole):
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease), running_seconds=0)
    await client.hset(redis_keys.record("default", bad.id), "webhook", NO_TEXT)
    most = {"limit": 10, "lease_seconds": 30, "most_each": 1}
    taken = await store.take_webhooks(**most, places={})
    assert {each.task_id for each in taken.due} == {bad.id, whole.id}
    for task in (bad, whole):
        await client.zadd(redis_keys.WEBHOOKS, {f"default {task.id}": 1})
    fewer = {each.receiver: 0 for each in taken.due if each.task_id == bad.id}
    taken = await store.take_webhooks(**most, places=fewer)
    assert [each.task_id for each in taken.due] == [whole.id]


async def test_a_member_that_is_no_text_keeps_no_sweep_from_the_others(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    pending, gone = await submitted(store), await submitted(store)
    await claim(store, gone, lease_seconds=0.01)
    due, leases, ended = redis_keys.DUE, redis_keys.LEASES, redis_keys.ENDED
    for key in (due, leases, ended, redis_keys.DELTAS):
        await client.zadd(key, {NO_TEXT: 0})
    await client.delete(redis_keys.rung("celeriac"))
    await client.zadd(due, {f"default {pending.id}": 0})
    await sweep_until(store, gone, TaskStatus.PENDING)
    assert await client.zscore(due, f"default {pending.id}") > 0


@pytest.mark.parametrize("member", [NO_TEXT, b"\xff \xff", "foreign", "a b c", " "])
async def test_a_member_that_names_nothing_of_ours_is_removed_and_hides_no_other(
    client: Redis, member: str | bytes
) -> None:
    store = RedisTaskStore(client)
    hook = "https://hooks.example.com/"
    first, told = await submitted(store), await submitted(store, webhook=hook)
    await store.put_schedule(MINE)
    await client.zadd(redis_keys.SCHEDULES, {"default mine": 1})
    for task in (first, told):
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease), running_seconds=0)
    await client.zadd(redis_keys.ENDED, {f"default {first.id}": 0})
    lines = (redis_keys.DUE, redis_keys.LEASES, redis_keys.ENDED, redis_keys.DELTAS)
    for key in (*lines, redis_keys.SCHEDULES, redis_keys.WEBHOOKS):
        await client.zadd(key, {member: -1})
    due = await store.due_schedules(limit=1)
    assert [each.schedule.id for each in due] == ["mine"]
    most = {"limit": 1, "lease_seconds": 30, "most_each": 1}
    hooks = (await store.take_webhooks(**most, places={})).due
    assert [each.task_id for each in hooks] == [told.id]
    for _ in range(2):
        await store.sweep(limit=1)
    assert await client.zcard(redis_keys.ENDED) == 1
    for key in (*lines, redis_keys.SCHEDULES, redis_keys.WEBHOOKS):
        assert await client.zscore(key, member) is None


async def test_a_schedule_that_is_no_text_is_left_out_of_the_listing(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    await store.put_schedule(MINE)
    await client.hset(redis_keys.schedules("default"), "other", NO_TEXT)
    assert [each.id for each in await store.schedules("default")] == ["mine"]


@pytest.mark.parametrize("attempt", [None, "x", "-1", "1" * 5000])
async def test_a_claim_whose_answer_and_attempt_are_damaged_is_refused(
    client: Redis, monkeypatch: pytest.MonkeyPatch, attempt: str | None
) -> None:
    """Something else writes to the record between the claim and the look at it."""
    store = RedisTaskStore(client)
    task = await submitted(store)
    record = redis_keys.record("default", task.id)
    await client.hset(record, "spec", NO_TEXT)
    read = store._scripts.read

    async def read_damaged(*command: str | int) -> object:
        await client.hdel(record, "attempt")
        if attempt is not None:
            await client.hset(record, "attempt", attempt)
        return await read(*command)

    monkeypatch.setattr(store._scripts, "read", read_damaged)
    assert await try_claim(store, task) is RefusalReason.UNKNOWN_SCHEMA


@pytest.mark.parametrize("number", ["x", "9" * 400])
async def test_a_run_whose_time_is_no_number_is_taken_back_with_its_lease(
    store: RedisTaskStore, client: Redis, number: str
) -> None:
    task = await submitted(store)
    await claim(store, task, lease_seconds=0.01)
    record = redis_keys.record("default", task.id)
    await client.hset(record, "running_ms", number)

    async def is_taken_back() -> bool:
        await store.sweep()
        return await client.hget(record, "status") == "pending"

    await until(is_taken_back)
    assert await client.hget(record, "running_ms") == "10"
