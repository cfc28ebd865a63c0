"""Planted secrets: nothing that the HTTP service answers, keeps or logs holds one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import redis

from orchestrator.http.auth import hash_of
from orchestrator.loop_thread import LoopThread
from tests.integration.test_endpoint_secrets import kept_in_redis
from tests.integration.test_http_processes import Replica, start_replica
from tests.stand import Stand, wait_until
from workers.llm.double import Double

API_KEY, WRONG_KEY = "canary-api-key", "canary-wrong-key"
REDIS_LOGIN = "canary-redis-login"
ENVIRONMENT = {
    "OPENAI_API_KEY": "canary-llm-key",
    "CELERIAC_WEBHOOKS__SECRET": "canary-webhook-secret",
    "CELERIAC_LLM__ENDPOINTS__OTHER__API_KEY": "canary-other-key",
    "CELERIAC_LLM__ENDPOINTS__OTHER__HEADERS": '{"x-team": "canary-header"}',
}
PROMPT = "personal-prompt"
"""No secret of the system, but nobody's business outside of the task."""
SETTINGS = f"""
http:
  keys:
    tester: {{hash: "{hash_of(API_KEY)}", scopes: [admin, operate]}}
agents:
  one: {{kind: llm}}
  two: {{kind: llm, endpoint: other, retry: {{max_attempts: 1}}}}
"""
PAGES = (
    "/healthz",
    "/readyz",
    "/status",
    "/metrics",
    "/openapi.json",
    "/agents",
    "/tasks",
    "/",
    "/ui/agents",
    "/ui/conversations",
    "/ui/login",
    "/v1/models",
)
BROKEN = (
    '{"agent": "one", "priority": "canary-body"}',
    '{"agent": "one", "canary-field": 1}',
    '{"agent": "one", "input": "canary-body"}',
    '{"canary-broken',
)


@pytest.fixture
def guarded(stand: Stand) -> Iterator[Stand]:
    """A stand whose HTTP service logs in to Redis with a password."""
    with redis.Redis.from_url(stand.redis_url) as client:
        rules = ["on", f">{REDIS_LOGIN}", "~*", "&*", "+@all"]
        client.execute_command("ACL", "SETUSER", "canary", *rules)
        yield stand
        client.execute_command("ACL", "DELUSER", "canary")


def guarded_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://canary:{quote(REDIS_LOGIN)}@{rest}"


def asked(client: httpx.Client) -> list[str]:
    """Ask in every way that ends well or badly; return the answers as text."""
    task_ids, seen = [], []
    for agent in ("one", "two"):
        body = {"agent": agent, "input": {"prompt": PROMPT}}
        task_ids.append(client.post("/tasks", json=body).json()["id"])
        body = {"model": agent, "input": PROMPT}
        seen.append(client.post("/v1/responses", json=body).text)
        messages = [{"role": "user", "content": PROMPT}]
        body = {"model": agent, "messages": messages}
        seen.append(client.post("/v1/chat/completions", json=body).text)
    for task_id in task_ids:
        client.get(f"/tasks/{task_id}/wait?timeout=30")
        for path in ("", "/steps", "/events"):
            seen.append(client.get(f"/tasks/{task_id}{path}").text)
        seen.append(client.get(f"/ui/tasks/{task_id}").text)
    seen += [client.get(page).text for page in PAGES]
    for body in BROKEN:
        for path in ("/tasks", "/v1/responses"):
            answer = client.post(
                path, content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 404, 422)
            seen.append(answer.text)
    wrong = {"Authorization": f"Bearer {WRONG_KEY}"}
    seen += [client.get(page, headers=wrong).text for page in PAGES]
    login = client.post("/ui/login", data={"key": WRONG_KEY, "next": "/"})
    return [*seen, login.text]


def command_lines() -> Iterator[str]:
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield line.read_bytes().decode(errors="replace")
        except OSError:
            continue


@contextmanager
def endpoints(stand: Stand) -> Iterator[None]:
    """Two endpoints: one answers, one repeats the key that it refuses."""
    repeats = {"status": 401, "text": "no: canary-other-key canary-header"}
    loop = LoopThread("endpoints")
    good, bad = Double(lambda _: "fine"), Double(lambda _: repeats)
    for double in (good, bad):
        loop.await_(double.__aenter__())
    stand.llm_url = good.url
    other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
    stand.environment |= {**ENVIRONMENT, other_url: bad.url}
    try:
        yield
    finally:
        for double in (good, bad):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()


@contextmanager
def service(stand: Stand) -> Iterator[tuple[Replica, httpx.Client]]:
    """The HTTP service with its password for Redis, and a client with a key."""
    stand.environment["REDIS_URL"] = guarded_url(stand.redis_url)
    replica = start_replica(stand, "guarded")
    headers = {"Authorization": f"Bearer {API_KEY}"}
    try:
        with httpx.Client(
            base_url=replica.url, timeout=60, headers=headers, trust_env=False
        ) as client:
            yield replica, client
    finally:
        replica.stop()


def asked_without_redis(stand: Stand, client: httpx.Client) -> list[str]:
    """Ask once Redis refuses the service's login; return the answers as text."""
    with redis.Redis.from_url(stand.redis_url) as store:
        store.execute_command("ACL", "SETUSER", "canary", "off")
        store.execute_command("CLIENT", "KILL", "USER", "canary")
    wait_until(lambda: not client.get("/readyz").is_success, 30)
    return [client.get(path).text for path in ("/readyz", "/tasks", "/v1/models", "/")]


@pytest.mark.timeout(180)
def test_no_secret_leaves_the_http_service(guarded: Stand) -> None:
    (guarded.directory / "celeriac.yaml").write_text(SETTINGS)
    with endpoints(guarded):
        worker = guarded.start_worker()
        with service(guarded) as (replica, client):
            seen = asked(client)
            assert "fine" in "".join(seen)
            commands = "".join(command_lines())
            seen += asked_without_redis(guarded, client)
    logs = [worker.text(), replica.log.read_text(errors="replace")]
    for text in (*kept_in_redis(guarded), *seen, *logs, commands):
        assert "canary-" not in text.replace("canary-field", "")
    assert PROMPT not in "".join((*logs, commands))
