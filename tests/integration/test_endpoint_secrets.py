"""Keys reach the endpoint and nothing else: no record, event, log or message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import TracebackException
from typing import Any
from urllib.parse import quote

import pytest
import redis

from orchestrator import Orchestrator, Settings, TaskFailed, load_settings
from orchestrator.loop_thread import LoopThread
from tests.integration.flower_stand import flower
from tests.integration.llm_serving import ASKED
from tests.stand import Stand
from workers.errors import LLMError
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.endpoint import CallLimits
from workers.llm.endpoint_settings import endpoint_of

KEYS = {
    "CELERIAC_LLM__ENDPOINTS__OTHER__API_KEY": "canary-other-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__HEADERS": '{"x-team": "canary-header"}',
    "CELERIAC_LLM__ENDPOINTS__PROXIED__BASE_URL": "http://models.invalid/v1",
    "CELERIAC_LLM__ENDPOINTS__PROXIED__PROXY": "http://me:canary-login@127.0.0.1:9",
    "CELERIAC_WEBHOOKS__SECRET": "canary-webhook-secret-of-enough-letters",
}
REPEATED = {"status": 401, "text": "no: canary-other-key canary-header"}
REFUSES = {
    "body": '{"choices": [{"message": {"refusal": "no: canary-other-key"}}]}',
}
MOVED = "http://127.0.0.1:9/v1?key=canary-other-key"
REDIRECTS = {"status": 307, "text": MOVED, "headers": {"location": MOVED}}
REPEATS = (REPEATED, REDIRECTS, REFUSES)
"""What the endpoint answers that repeats its keys, one task each."""
HANGS = {"hang": True}
REDIS_LOGIN = "canary-redis-login"
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


INSPECT = """
import json
from workers.app import app
look = app.control.inspect(timeout=30, limit=1)
answers = [look.conf(with_defaults=True), look.stats(), look.report()]
print(json.dumps(answers, default=str), app.bugreport(), app.conf.humanize())
"""
"""What Celery tells of a worker and of its settings, to anybody who asks."""


@pytest.fixture
def guarded(stand: Stand) -> Iterator[Stand]:
    """A stand whose processes log in to Redis; their broker names a second server."""
    with redis.Redis.from_url(stand.redis_url) as client:
        rules = ["on", f">{REDIS_LOGIN}", "~*", "&*", "+@all"]
        client.execute_command("ACL", "SETUSER", "watched", *rules)
        scheme, _, rest = stand.redis_url.partition("://")
        url = f"{scheme}://watched:{quote(REDIS_LOGIN)}@{rest}"
        other = "redis://:canary-other-broker@127.0.0.1:9/0"
        secrets = stand.directory / "secrets"
        secrets.mkdir()
        (secrets / "openai_api_key").write_text("canary-default-key\n")
        stand.environment |= {
            **KEYS,
            "REDIS_URL": url,
            "CELERY_BROKER_URL": f"{url};{other}",
            "CELERIAC_SECRETS_DIR": str(secrets),
        }
        yield stand
        client.execute_command("ACL", "DELUSER", "watched")


def ways_to_look(stand: Stand) -> Iterator[str]:
    """Everything that commands and Celery tell of the settings and of the worker."""
    for line in ("endpoints", "config --json", "status --json", "doctor --json"):
        yield command(stand, *line.split(), check=False)
    told = command(stand, program=("-c", INSPECT))
    assert "broker_url" in told
    assert "alternates" in told
    yield told


def errors_with_locals(settings: Settings) -> Iterator[str]:
    """What a reporter of errors sends away: each frame with its variables."""
    yield repr(settings) + str(settings) + settings.model_dump_json()
    for name, endpoint in settings.llm.by_name.items():
        limits = CallLimits(total_seconds=0.5 if name == "default" else 30)
        provider = ChatCompletionsProvider(
            endpoint_of(endpoint), model="m", limits=limits
        )
        loop = LoopThread(name)
        try:
            loop.await_(provider.complete(ASKED))
        except LLMError as exc:
            shown = TracebackException.from_exception(exc, capture_locals=True)
            yield "".join(shown.format())
        finally:
            loop.await_(provider.aclose())
            loop.close()


@contextmanager
def endpoints(stand: Stand) -> Iterator[tuple[Double, Double]]:
    """One that answers and then hangs; one that repeats keys where it should not."""
    loop = LoopThread("endpoints")
    good, bad = Double(["fine", HANGS]), Double([*REPEATS, REPEATED])
    for double in (good, bad):
        loop.await_(double.__aenter__())
    stand.llm_url = good.url
    stand.environment["CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"] = bad.url
    try:
        yield good, bad
    finally:
        for double in (good, bad):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()


def shown_of_tasks(stand: Stand, port: int) -> Iterator[str]:
    """Run a task that ends well and some that fail; yield what is told of them."""
    with (
        flower(stand, port, login=LOGIN) as watching,
        Orchestrator(stand.settings()) as celeriac,
    ):
        first = celeriac.submit("one", {"prompt": "go"})
        assert first.result(timeout=60).content == "fine"
        ids = [first.id]
        for agent in (*["two"] * len(REPEATS), "three"):
            task_id, told = failed(celeriac, agent)
            ids.append(task_id)
            yield from told
        yield from watching.everything(dict.fromkeys(ids, _ENDED))
        yield from map(watching.page, ("/broker", "/metrics", "/api/queues/length"))
        yield watching.log.read_text()
        yield from ways_to_look(stand)


@pytest.mark.timeout(240)
def test_no_key_is_kept_anywhere(
    guarded: Stand, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
):
    stand = guarded
    with endpoints(stand) as (good, bad):
        (stand.directory / "celeriac.yaml").write_text(SETTINGS)
        worker = stand.start_worker()
        seen = list(shown_of_tasks(stand, unused_tcp_port))
        gates = json.loads(command(stand, "endpoints", "--json"))
        for name, value in stand.variables().items():
            monkeypatch.setenv(name, value)
        errors = list(
            errors_with_locals(load_settings(stand.directory / "celeriac.yaml"))
        )
    assert sum("workers.errors" in each for each in errors) == len(gates)
    assert_told(gates)
    assert good.requests[0].headers["Authorization"] == "Bearer canary-default-key"
    assert bad.requests[0].headers["x-team"] == "canary-header"
    kept = kept_in_redis(stand)
    assert any("gate" in each for each in kept)
    for text in (*kept, *seen, *errors, worker.text()):
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


def command(
    stand: Stand,
    *arguments: str,
    check: bool = True,
    program: tuple[str, ...] = ("-m", "orchestrator"),
) -> str:
    """Return what a command of `celeriac` prints there."""
    ended = subprocess.run(
        [sys.executable, *program, *arguments],
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
