"""docs/redis-keys.md against a Redis that has seen a full run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import redis

from conversations.json_value import JsonObject
from orchestrator import Orchestrator, TaskHandle
from orchestrator.celery_settings import DEFAULT_QUEUE
from orchestrator.loop_thread import LoopThread
from tests.integration import keys_agents
from tests.stand import Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply
from workers.llm.reply import ScriptedCall

pytestmark = pytest.mark.timeout(120)

PAGE = (Path(__file__).parents[2] / "docs/redis-keys.md").read_text()
TYPES = {"sorted set": "zset"}
BROKERS_OWN = re.compile(r"_kombu\.|celeriac(\x06\x16\d+)?$|unacked")
NOBODY = "http://127.0.0.1:9/"
DEATHS = 2
GONE = -2
"""Time to live of a key that went after it was listed."""
ALWAYS_EXPIRES = re.compile(r"\d|a day|a minute|half a|about an|as the gate|.*at most$")
EXPIRES_ONCE_ENDED = re.compile(
    r"after its end|with the record|as an end|.*from its end"
)
CONVERSATION = "celeriac:{tenant}:conversation"
SEEN_IN_EVERY_RUN = (
    "celeriac:{tenant}:task:{id}",
    "celeriac:{tenant}:task:{id}:journal",
    "celeriac:{tenant}:idempotency:{hash}",
    "celeriac:{tenant}:tasks:status:{status}",
    "celeriac:{tenant}:conversation:{id}:log",
    "celeriac:{tenant}:schedules",
    "celeriac:{tenant}:metrics",
    "celeriac:_fleet:tenants",
    "celeriac:_fleet:ended",
    "celeriac:_fleet:flow",
    "celeriac:_fleet:history",
    "celeriac:_fleet:gate:{sha256}",
    "celeriac:_fleet:gate:{sha256}:window",
    "celeriac:{tenant}:task:{id}:budget",
    "celeriac:{tenant}:budget:agent:{name}:{day}",
    "celeriac:{tenant}:budget:tenant:{name}:{day}",
    "celeriac:{tenant}:task:{id}:joined",
    "celeriac:{tenant}:task:{id}:then",
    "celeriac:_fleet:crashed:{worker}",
    "celeriac:_fleet:webhooks",
    "{queue}.malformed",
    "{queue}.malformed.counts",
)
BOUNDED = """
llm: {limits: {in_flight: 1, requests_per_minute: 100}}
webhooks: {allowed: ["http://127.0.0.1:9/"]}
budgets: {default: {daily_tokens: 1000000}}
agents: {assistant: {kind: llm, budget: {daily_tokens: 900000}}}
"""


def rows() -> dict[str, tuple[str, str]]:
    """Type and time to live by key, as the page tells."""
    found = re.findall(r"^\| `([^`]+)` \| ([\w ]+) \| .* \| (.+) \| .+ \|$", PAGE, re.M)
    return {
        key.replace("…", CONVERSATION).replace("<queue>", "{queue}"): (
            TYPES.get(kind, kind),
            lives,
        )
        for key, kind, lives in found
    }


def pattern(key: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", key)
    text = "".join(
        re.escape(part)
        if place % 2 == 0
        else (r"[^:]+(:\d+:[\w-]+)?" if part == "worker" else r"[^:]+")
        for place, part in enumerate(parts)
    )
    return re.compile(text)


Rows = dict[str, tuple[re.Pattern[str], str, str]]


def check(client: redis.Redis, told: Rows, *, ended: bool = False) -> set[str]:
    """Compare every key that is there with the page; returns the rows that were met."""
    matched: set[str] = set()
    for key in client.scan_iter(count=1000):
        kind, ttl = client.type(key), client.ttl(key)
        if ttl == GONE or BROKERS_OWN.match(key):
            continue
        fitting = [row for row, (rule, *_) in told.items() if rule.fullmatch(key)]
        assert fitting, f"{key} ({kind}) is not on the page"
        row = key if key in fitting else max(fitting, key=len)
        _, told_kind, lives = told[row]
        assert kind == told_kind, key
        if lives == "none":
            assert ttl == -1, f"{key} has a time to live of {ttl} s"
        elif ALWAYS_EXPIRES.match(lives) or (ended and EXPIRES_ONCE_ENDED.match(lives)):
            assert ttl != -1, f"{key} never expires, the page says: {lives}"
        matched.add(row)
    return matched


def answer(body: JsonObject) -> HttpReply:
    """One call of the agent's tool, then text; "slow" takes its time."""
    text = json.dumps(body["messages"])
    delay = 2.0 if "slow" in text else 0.0
    tools = [each["function"]["name"] for each in body.get("tools") or ()]
    if tools and body["messages"][-1]["role"] == "user":
        call = ScriptedCall(name=tools[0], arguments={}, id="c1")
        return HttpReply(text="Wait.", tool_calls=(call,), delay_seconds=delay)
    return HttpReply(text="Well.", delay_seconds=delay)


def submit_plain_work(celeriac: Orchestrator) -> list[TaskHandle]:
    """A budget, a gate, a cache, a tag, a chain, a schedule and a webhook."""
    ask = {"agent": "assistant", "input": {"prompt": "Go"}, "tags": ("word",)}
    celeriac.schedule("yearly", "assistant", {"prompt": "Go"}, cron="0 0 1 1 *")
    bounded = {"conversation_id": "c", "budget": {"tokens": 50_000}}
    first = {**ask, "idempotency_key": "k", **bounded}
    told = celeriac.submit("assistant", {"prompt": "Go"}, webhook=f"{NOBODY}hook")
    return [told, *celeriac.submit_many([first, {**ask, "cache_ttl": "1h"}], then=ask)]


def steer(celeriac: Orchestrator) -> list[TaskHandle]:
    """A message that is to join a run under way."""
    talk = {"conversation_id": "talk", "when_busy": "steer"}
    first = celeriac.submit("looker", {"prompt": "slow"}, **talk)
    wait_until(lambda: first.status() == "running", 30)
    return [first, celeriac.submit("looker", {"prompt": "also"}, **talk)]


def bury(stand: Stand, mortal: TaskHandle) -> None:
    """Start a worker after each that the task ends."""
    for number in range(DEATHS):
        wait_until(lambda: stand.workers[-1].process.poll() is not None, 30)
        stand.start_worker("-I", keys_agents.__name__.rpartition(".")[2])
        assert len(stand.workers) == number + 2
    mortal.result(timeout=60)


def test_every_key_that_a_full_run_leaves_is_on_the_page(stand: Stand) -> None:
    loop, double = LoopThread("double"), Double(answer)
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    stand.environment |= {"CELERIAC_WORKER__LEASE": "3s"}
    stand.environment |= {"CELERIAC_WORKER__HEARTBEAT": "1s"}
    (stand.directory / "celeriac.yaml").write_text(BOUNDED)
    source = Path(keys_agents.__file__)
    shutil.copy(source, stand.directory / source.name)
    stand.start_worker("-I", source.stem)
    told = {key: (pattern(key), *facts) for key, facts in rows().items()}
    allowed = {"allowed": [NOBODY]}
    with (
        Orchestrator(stand.settings(webhooks=allowed)) as celeriac,
        redis.Redis.from_url(stand.redis_url, decode_responses=True) as client,
    ):
        client.lpush(DEFAULT_QUEUE, "garbage")
        handles = [*submit_plain_work(celeriac), *steer(celeriac)]
        signed = celeriac.submit("signer", {"prompt": "Go"})
        handles.append(celeriac.submit("looker", {"prompt": "Go"}, after=[signed.id]))
        matched = check(client, told)
        wait_until(lambda: signed.status() == "waiting", 30)
        matched |= check(client, told)
        (call,) = signed.get().awaiting
        celeriac.resolve(signed.id, call.call_id, "run")
        for handle in handles:
            handle.result(timeout=30)
        mortal = celeriac.submit("mortal", {"prompt": "Go"})
        bury(stand, mortal)
        matched |= check(client, told, ended=True)
        celeriac.submit("assistant", {"prompt": "Go"}, not_before=None, priority=9)
        matched |= check(client, told)
    loop.await_(double.__aexit__(None, None, None))
    loop.close()
    assert set(SEEN_IN_EVERY_RUN) - matched == set()
