"""Keys reach the endpoint and nothing else: no record, event, log or message."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import redis

from orchestrator import Orchestrator, TaskFailed
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand
from workers.llm.double import Double

KEYS = {
    "OPENAI_API_KEY": "canary-default-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__API_KEY": "canary-other-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__HEADERS": '{"x-team": "canary-header"}',
}
SETTINGS = """
llm:
  limits: {in_flight: 2}
agents:
  one: {kind: llm, budget: {tokens: 100000}}
  two: {kind: llm, endpoint: other, retry: {max_attempts: 1}}
"""


def test_no_key_is_kept_anywhere(stand: Stand):
    repeats = {"status": 401, "text": "no: canary-other-key canary-header"}
    loop = LoopThread("endpoints")
    good, bad = Double(["fine"]), Double([repeats])
    for double in (good, bad):
        loop.await_(double.__aenter__())
    try:
        stand.llm_url = good.url
        other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
        stand.environment |= {**KEYS, other_url: bad.url}
        (stand.directory / "celeriac.yaml").write_text(SETTINGS)
        worker = stand.start_worker()
        with Orchestrator(stand.settings()) as celeriac:
            first = celeriac.submit("one", {"prompt": "go"})
            assert first.result(timeout=30).content == "fine"
            second = celeriac.submit("two", {"prompt": "go"})
            with pytest.raises(TaskFailed) as caught:
                second.result(timeout=30)
            seen = [str(caught.value), *map(str, second.events())]
        seen += [command(stand, "endpoints"), command(stand, "config")]
        gates = json.loads(command(stand, "endpoints", "--json"))
    finally:
        for double in (good, bad):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()
    assert_told(gates)
    assert good.requests[0].headers["Authorization"] == "Bearer canary-default-key"
    assert bad.requests[0].headers["x-team"] == "canary-header"
    with redis.Redis.from_url(stand.redis_url) as client:
        kept = [dump(client, key) for key in client.scan_iter(count=1000)]
    assert any("gate" in each for each in kept)
    for text in (*kept, *seen, worker.text()):
        assert "canary" not in text


def assert_told(gates: list[dict[str, Any]]) -> None:
    assert [gate["endpoint"] for gate in gates] == ["default", "other"]
    assert gates[0]["state"]["requests"] == 1
    assert gates[0]["limits"]["in_flight"] == 2


def command(stand: Stand, *arguments: str) -> str:
    """Return what a command of `celeriac` prints there."""
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=stand.directory,
        env=stand.variables(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return ended.stdout + ended.stderr


def dump(client: redis.Redis, key: bytes) -> str:
    """Return a key and all that it holds as text."""
    reads = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"stream": client.xrange,
        b"zset": lambda name: client.zrange(name, 0, -1),
        b"set": client.smembers,
        b"list": lambda name: client.lrange(name, 0, -1),
    }
    return f"{key!r} {reads[client.type(key)](key)!r}"
