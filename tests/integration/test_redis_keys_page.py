"""docs/redis-keys.md against a Redis that has seen a full run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand
from workers.llm.double import Double

pytestmark = pytest.mark.timeout(120)

PAGE = (Path(__file__).parents[2] / "docs/redis-keys.md").read_text()
TYPES = {"sorted set": "zset"}
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
    "celeriac:{tenant}:budget:task:{id}",
    "celeriac:{tenant}:budget:agent:{name}:{day}",
    "celeriac:{tenant}:budget:tenant:{name}:{day}",
)
BOUNDED = """
llm: {limits: {in_flight: 1, requests_per_minute: 100}}
budgets: {default: {daily_tokens: 1000000}}
agents: {assistant: {kind: llm, budget: {daily_tokens: 900000}}}
"""


def rows() -> dict[str, tuple[str, str]]:
    """Type and time to live by key, as the page tells."""
    found = re.findall(r"^\| `([^`]+)` \| ([\w ]+) \| .* \| (.+) \| .+ \|$", PAGE, re.M)
    return {
        key.replace("…", CONVERSATION): (TYPES.get(kind, kind), lives)
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


def test_every_key_that_a_full_run_leaves_is_on_the_page(stand: Stand) -> None:
    loop, double = LoopThread("double"), Double(["One.", "Two.", "Three."])
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    (stand.directory / "celeriac.yaml").write_text(BOUNDED)
    stand.start_worker()
    ask = {"agent": "assistant", "input": {"prompt": "Go"}, "tags": ("word",)}
    with Orchestrator(stand.settings()) as celeriac:
        celeriac.schedule("yearly", "assistant", {"prompt": "Go"}, cron="0 0 1 1 *")
        *_, last = celeriac.submit_many(
            [
                {
                    **ask,
                    "idempotency_key": "k",
                    "conversation_id": "c",
                    "budget": {"tokens": 50_000},
                },
                {**ask, "cache_ttl": "1h"},
            ],
            then=ask,
        )
        last.result(timeout=30)
        celeriac.submit("assistant", {"prompt": "Go"}, not_before=None, priority=9)
    with redis.Redis.from_url(stand.redis_url, decode_responses=True) as client:
        live = {
            key: (client.type(key), client.ttl(key))
            for key in client.scan_iter("celeriac:*", count=1000)
        }
    loop.await_(double.__aexit__(None, None, None))
    loop.close()
    told = {key: (pattern(key), *facts) for key, facts in rows().items()}
    matched: set[str] = set()
    for key, (kind, ttl) in live.items():
        if kind == "none":  # it went between the two commands
            continue
        fitting = {
            row: facts for row, (rule, *facts) in told.items() if rule.fullmatch(key)
        }
        exact = key if key in fitting else None
        assert fitting, f"{key} ({kind}) is not on the page"
        row = exact or max(fitting, key=len)
        told_kind, lives = fitting[row]
        assert kind == told_kind, key
        if lives == "none":
            assert ttl == -1, f"{key} has a time to live of {ttl} s"
        matched.add(row)
    assert set(SEEN_IN_EVERY_RUN) <= matched
