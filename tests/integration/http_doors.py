"""How tests ask the service: its keys, a body for each route, bytes as they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from orchestrator.http.app import create_app
from orchestrator.http.auth import hash_of
from orchestrator.settings import Settings
from tests.http_service import Service, serving

OPEN = {"/healthz"}
"""What answers without a key: whether the process lives."""


SCOPES = {
    "mine": ["read", "submit", "cancel", "approve", "admin"],
    "powerless": [],
    "reader": ["read"],
    "submitter": ["submit"],
}
BODIES: dict[str, Any] = {
    "/tasks": {"agent": "assistant", "input": {"prompt": "hi"}},
    "/tasks/{task_id}/resolve": {"call_id": "c", "decision": "run"},
    "/schedules/{schedule_id}": {
        "cron": "0 0 * * *",
        "task": {"agent": "assistant", "input": {}},
    },
    "/v1/responses": {"model": "assistant", "input": "hi"},
    "/v1/chat/completions": {
        "model": "assistant",
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation_id}/items": {
        "items": [{"role": "user", "content": "x"}]
    },
}


def routes() -> list[tuple[str, str]]:
    """Every operation of the OpenAPI document."""
    app = create_app(Settings(storage={"backend": "memory"}))
    paths = app.openapi()["paths"]
    return [
        (method, path) for path, operations in paths.items() for method in operations
    ]


def keys() -> dict[str, Any]:
    mine = {
        name: {"hash": hash_of(name), "tenant": "acme", "scopes": scopes}
        for name, scopes in SCOPES.items()
    }
    every = SCOPES["mine"]
    expired = {"hash": hash_of("expired"), "expires_at": "2020-01-01T00:00:00Z"}
    other = {"hash": hash_of("other"), "tenant": "umbrella", "scopes": every}
    return {**mine, "other": other, "expired": {**expired, "scopes": every}}


@asynccontextmanager
async def service(**http: Any) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    async with (
        serving(lambda _: "ok", http=http) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        yield running, client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def fixtures(client: httpx.AsyncClient) -> dict[str, str]:
    """Make one of each thing as the tenant `acme`; return ids by path parameter."""
    mine = bearer("mine")
    task = await client.post("/tasks", json=BODIES["/tasks"], headers=mine)
    response = await client.post(
        "/v1/responses", json=BODIES["/v1/responses"], headers=mine
    )
    talk = await client.post("/v1/conversations", json={}, headers=mine)
    item = await client.post(
        f"/v1/conversations/{talk.json()['id']}/items",
        json=BODIES["/v1/conversations/{conversation_id}/items"],
        headers=mine,
    )
    path = "/schedules/{schedule_id}"
    await client.put("/schedules/nightly", json=BODIES[path], headers=mine)
    return {
        "task_id": task.json()["id"],
        "response_id": response.json()["id"],
        "conversation_id": talk.json()["id"],
        "item_id": item.json()["data"][0]["id"],
        "schedule_id": "nightly",
    }


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: ids.get(m[1], "nothing"), path)


def check_shape(path: str, answer: httpx.Response) -> None:
    """An error has the shape of its API and tells nothing of what was sent."""
    if path.startswith("/v1"):
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    assert "secret" not in answer.text


async def raw(url: str, request: bytes, *, seconds: float = 20) -> bytes:
    """Send bytes as they are; return what comes back until the connection ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()
