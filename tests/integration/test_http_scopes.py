"""Every route of the service and every scope; who adds a route must place it here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from orchestrator.http.app import create_app
from orchestrator.http.auth import hash_of
from orchestrator.http_settings import Scope
from orchestrator.settings import Settings
from tests.http_service import serving
from tests.integration.http_doors import BODIES, bearer

OPEN = "open"
"""Answers without a key, and tells nothing of what is stored."""
ANY = "any"
"""Needs a key, whatever it allows."""
NEEDS: dict[str, str] = {
    "GET /healthz": OPEN,
    "GET /ui/login": OPEN,
    "POST /ui/login": OPEN,
    "POST /ui/logout": OPEN,
    "GET /ui/static/{name}": OPEN,
    "GET /openapi.json": ANY,
    "GET /readyz": "read",
    "GET /status": "read",
    "GET /metrics": "read",
    "POST /tasks": "submit",
    "GET /tasks": "read",
    "GET /tasks/{task_id}": "read",
    "GET /tasks/{task_id}/steps": "read",
    "GET /tasks/{task_id}/events": "read",
    "GET /tasks/{task_id}/wait": "read",
    "POST /tasks/{task_id}/cancel": "cancel",
    "POST /tasks/{task_id}/retry": "submit",
    "POST /tasks/{task_id}/resolve": "approve",
    "GET /agents": "read",
    "GET /agents/{name}": "read",
    "GET /schedules": "read",
    "PUT /schedules/{schedule_id}": "admin",
    "DELETE /schedules/{schedule_id}": "admin",
    "POST /v1/responses": "submit",
    "GET /v1/responses/{response_id}": "read",
    "POST /v1/responses/{response_id}/cancel": "cancel",
    "DELETE /v1/responses/{response_id}": "submit",
    "GET /v1/responses/{response_id}/input_items": "read",
    "POST /v1/conversations": "submit",
    "GET /v1/conversations/{conversation_id}": "read",
    "POST /v1/conversations/{conversation_id}": "submit",
    "DELETE /v1/conversations/{conversation_id}": "submit",
    "GET /v1/conversations/{conversation_id}/items": "read",
    "POST /v1/conversations/{conversation_id}/items": "submit",
    "GET /v1/conversations/{conversation_id}/items/{item_id}": "read",
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": "submit",
    "POST /v1/chat/completions": "submit",
    "GET /v1/models": "read",
    "GET /v1/models/{model}": "read",
    "GET /": "read",
    "GET /ui/tasks/{task_id}": "read",
    "POST /ui/tasks/{task_id}/cancel": "cancel",
    "POST /ui/tasks/{task_id}/retry": "submit",
    "POST /ui/tasks/{task_id}/resolve": "approve",
    "GET /ui/conversations": "read",
    "GET /ui/conversations/{conversation_id}": "read",
    "GET /ui/agents": "read",
}


def served() -> Iterator[str]:
    """Every route that the service answers."""
    app = create_app(Settings(storage={"backend": "memory"}))
    for route in iter_route_contexts(app.routes):
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                yield f"{method} {route.path}"


def test_every_route_says_what_it_needs() -> None:
    assert sorted(served()) == sorted(NEEDS)


def keys() -> dict[str, object]:
    return {
        scope: {"hash": hash_of(scope), "tenant": "acme", "scopes": [scope]}
        for scope in Scope
    } | {"nothing": {"hash": hash_of("nothing"), "tenant": "acme", "scopes": []}}


def allowed(need: str, key: str) -> bool:
    return need in (OPEN, ANY, key) or key == "admin"


@pytest.mark.timeout(120)
async def test_each_key_does_what_its_scopes_allow_and_no_more() -> None:
    async with (
        serving(lambda _: "ok", http={"keys": keys(), "max_wait": "5s"}) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        for route, need in NEEDS.items():
            method, path = route.split(" ")
            url = re.sub(r"\{\w+\}", "nothing", path)
            body = BODIES.get(path)
            bare = await client.request(method, url, json=body)
            is_page = path == "/" or path.startswith("/ui")
            if need == OPEN:
                assert bare.status_code not in (401, 403) or "login" in path, route
            elif is_page:
                assert bare.headers["location"].startswith("/ui/login"), route
            else:
                assert bare.status_code == 401, route
            for key in (*Scope, "nothing"):
                answer = await client.request(
                    method, url, json=body, headers=bearer(key)
                )
                refused = answer.status_code in (401, 403)
                assert refused is not allowed(need, key) or need == OPEN, (route, key)
