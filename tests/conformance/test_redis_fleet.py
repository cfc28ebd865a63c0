"""What a large fleet costs whoever looks at it, counted on a real Redis."""

from __future__ import annotations

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_store import RedisTaskStore
from orchestrator.schedule import Schedule
from orchestrator.store import LeaseState
from orchestrator.task import Task
from tests.conformance.task_steps import running, worker

AGENTS = 100
WORKERS = 20


async def sent_bytes(client: Redis) -> int:
    return int((await client.info("stats"))["total_net_output_bytes"])


async def test_a_look_at_one_agent_reads_no_announcement_of_a_large_fleet(
    client: Redis,
) -> None:
    directory = RedisAgentDirectory(client)
    names = [f"agent-{number}" for number in range(AGENTS)]
    for number in range(WORKERS):
        each = worker(*names, worker_id=f"w{number}")
        await directory.announce(each, ttl_seconds=30)
    before = await sent_bytes(client)
    info = await directory.find(names[0])
    read = await sent_bytes(client) - before
    assert info is not None
    assert info.health.workers == WORKERS
    an_announcement = AGENTS * len(info.config.model_dump_json())
    assert read < an_announcement


async def test_a_worker_of_an_older_release_serves_what_it_announces(
    client: Redis,
) -> None:
    """It writes no key with the names of its agents alone."""
    directory = RedisAgentDirectory(client)
    for worker_id in ("older", "newer"):
        each = worker("a", worker_id=worker_id)
        await directory.announce(each, ttl_seconds=30)
    await client.delete(redis_keys.served("older"))
    info = await directory.find("a")
    assert info is not None
    assert info.health.workers == 2


async def calls_of(client: Redis, command: str) -> int:
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_workers_and_agents_of_a_large_fleet_are_read_in_pieces(
    client: Redis,
) -> None:
    """A thousand agents are a tenth of a second of the caller's loop in one go."""
    directory = RedisAgentDirectory(client)
    for number in range(25):
        each = worker(f"agent-{number}", worker_id=f"w{number:02}")
        await directory.announce(each, ttl_seconds=30)
    before = await calls_of(client, "mget")
    workers = await directory.workers()
    assert [info.id for info in workers] == [f"w{number:02}" for number in range(25)]
    assert await calls_of(client, "mget") - before == 3


async def test_many_schedules_are_read_in_pieces(client: Redis) -> None:
    store = RedisTaskStore(client)
    names = [f"s{number:04}" for number in range(1001)]
    for name in names:
        task = Task(agent_name="a")
        await store.put_schedule(Schedule(id=name, cron="0 0 1 1 *", task=task))
    before = await calls_of(client, "zmscore")
    assert [each.id for each in await store.schedules("default")] == names
    assert await calls_of(client, "zmscore") - before == 3


async def script_calls(client: Redis) -> int:
    stats = await client.info("commandstats")
    names = ("cmdstat_fcall", "cmdstat_evalsha")
    return sum(stats.get(name, {}).get("calls", 0) for name in names)


async def test_many_leases_are_renewed_in_pieces(client: Redis) -> None:
    """Redis serves nobody else while a script runs: 50 ms for five thousand."""
    store = RedisTaskStore(client)
    held = await running(store)
    leases = [held._replace(task_id=f"gone-{number}") for number in range(1200)]
    before = await script_calls(client)
    states = await store.renew([*leases, held], lease_seconds=30)
    assert states == (*(LeaseState.LOST for _ in leases), LeaseState.HELD)
    assert await script_calls(client) - before == 3
