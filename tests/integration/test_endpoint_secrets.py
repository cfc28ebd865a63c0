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
from tests.integration.flower_stand import flower
from tests.stand import Stand
from workers.llm.double import Double

KEYS = {
    "OPENAI_API_KEY": "canary-default-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__API_KEY": "canary-other-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__HEADERS": '{"x-team": "canary-header"}',
    "CELERIAC_LLM__ENDPOINTS__PROXIED__BASE_URL": "http://models.invalid/v1",
    "CELERIAC_LLM__ENDPOINTS__PROXIED__PROXY": "http://me:canary-login@127.0.0.1:9",
    "CELERIAC_WEBHOOKS__SECRET": "canary-webhook-secret-of-enough-letters",
}
REPEATS = {"status": 401, "text": "no: canary-other-key canary-header"}
MOVED = "http://127.0.0.1:9/v1?key=canary-other-key"
REDIRECTS = {"status": 307, "text": MOVED, "headers": {"location": MOVED}}
LOGIN = "watcher:flower-password"
_ENDED = ("SUCCESS", "FAILURE")
SETTINGS = """
llm:
  limits: {in_flight: 2}
agents:
  one: {kind: llm, budget: {tokens: 100000}}
  two: {kind: llm, endpoint: other, retry: {max_attempts: 1}}
  three: {kind: llm, endpoint: proxied, retry: {max_attempts: 1}}
"""


@pytest.mark.timeout(180)
def test_no_key_is_kept_anywhere(stand: Stand, unused_tcp_port: int):
    loop = LoopThread("endpoints")
    good, bad = Double(["fine"]), Double([REPEATS, REDIRECTS])
    for double in (good, bad):
        loop.await_(double.__aenter__())
    try:
        stand.llm_url = good.url
        other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
        stand.environment |= {**KEYS, other_url: bad.url}
        (stand.directory / "celeriac.yaml").write_text(SETTINGS)
        worker = stand.start_worker()
        with (
            flower(stand, unused_tcp_port, login=LOGIN) as watching,
            Orchestrator(stand.settings()) as celeriac,
        ):
            first = celeriac.submit("one", {"prompt": "go"})
            assert first.result(timeout=60).content == "fine"
            seen, ids = [], [first.id]
            for agent in ("two", "two", "three"):
                task_id, told = failed(celeriac, agent)
                ids.append(task_id)
                seen += told
            seen += watching.everything(dict.fromkeys(ids, _ENDED))
        seen += [command(stand, "endpoints"), command(stand, "config")]
        seen.append(command(stand, "doctor", "--json", check=False))
        gates = json.loads(command(stand, "endpoints", "--json"))
    finally:
        for double in (good, bad):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()
    assert_told(gates)
    assert good.requests[0].headers["Authorization"] == "Bearer canary-default-key"
    assert bad.requests[0].headers["x-team"] == "canary-header"
    kept = kept_in_redis(stand)
    assert any("gate" in each for each in kept)
    for text in (*kept, *seen, worker.text()):
        assert "canary" not in text


def failed(celeriac: Orchestrator, agent: str) -> tuple[str, list[str]]:
    """Have a task fail; return its id and all that is told of it."""
    failing = celeriac.submit(agent, {"prompt": "go"})
    with pytest.raises(TaskFailed) as caught:
        failing.result(timeout=60)
    record = celeriac.get(failing.id).model_dump_json()
    told = [str(caught.value), repr(caught.value), record]
    return failing.id, [*told, *map(str, failing.events())]


def kept_in_redis(stand: Stand) -> list[str]:
    with redis.Redis.from_url(stand.redis_url) as client:
        return [dump(client, key) for key in client.scan_iter(count=1000)]


def assert_told(gates: list[dict[str, Any]]) -> None:
    assert [gate["endpoint"] for gate in gates] == ["default", "other", "proxied"]
    assert gates[0]["state"]["requests"] == 1
    assert gates[0]["limits"]["in_flight"] == 2


def command(stand: Stand, *arguments: str, check: bool = True) -> str:
    """Return what a command of `celeriac` prints there."""
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=stand.directory,
        env=stand.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
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
