"""What one tenant may bring, and what is written of who asked for what."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from orchestrator.http.admission import Admission
from orchestrator.http.auth import hash_of
from orchestrator.log_format import FactsFormatter
from tests.acceptance.openai_client import client_of
from tests.http_service import Service, serving
from tests.integration.http_doors import BODIES, bearer, check_shape

CREATES = ("/tasks", "/v1/responses", "/v1/chat/completions")
LATER = datetime.now(UTC) + timedelta(hours=1)
NEVER = {**BODIES["/tasks"], "not_before": LATER.isoformat()}
"""Accepted, and unfinished for the rest of the test."""


@asynccontextmanager
async def bounded(**http: Any) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    scopes = ["read", "submit", "cancel"]
    keys = {
        name: {"hash": hash_of(name), "tenant": name, "scopes": scopes}
        for name in ("acme", "umbrella")
    }
    async with (
        serving(lambda _: "ok", http={"keys": keys, **http}) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        yield running, client


async def refused(client: httpx.AsyncClient, code: str) -> None:
    for path in CREATES:
        answer = await client.post(path, json=BODIES[path], headers=bearer("acme"))
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        check_shape(path, answer)
        assert code in answer.text


async def test_a_tenant_with_too_many_tasks_is_asked_to_wait_and_others_are_not() -> (
    None
):
    async with bounded(max_unfinished=3) as (running, client):
        mine = bearer("acme")
        made = [await client.post("/tasks", json=NEVER, headers=mine) for _ in range(3)]
        assert [answer.status_code for answer in made] == [202, 202, 202]
        await refused(client, "too_many_tasks")
        assert len((await running.celeriac.list(tenant="acme")).tasks) == 3
        other = await client.post(
            "/tasks", json=BODIES["/tasks"], headers=bearer("umbrella")
        )
        assert other.status_code == 202
        await client.post(f"/tasks/{made[0].json()['id']}/cancel", headers=mine)
        async with client_of(running.url, api_key="acme", max_retries=3) as patient:
            answer = await patient.responses.create(model="assistant", input="hi")
        assert answer.output_text == "ok"


async def test_a_tenant_that_submits_too_fast_is_asked_to_wait() -> None:
    async with bounded(max_submits_per_minute=2) as (running, client):
        clock = [90.0]
        app: Any = running.servers[0].config.app
        app.state.admission = Admission(app.state.http_settings, clock=lambda: clock[0])
        made = [
            await client.post("/tasks", json=NEVER, headers=bearer("acme"))
            for _ in range(2)
        ]
        assert [answer.status_code for answer in made] == [202, 202]
        await refused(client, "rate_limit_exceeded")
        other = await client.post("/tasks", json=NEVER, headers=bearer("umbrella"))
        assert other.status_code == 202
        async with client_of(running.url, api_key="acme") as hasty:
            with pytest.raises(openai.RateLimitError):
                await hasty.responses.create(model="assistant", input="hi")
        clock[0] += 30
        later = await client.post("/tasks", json=NEVER, headers=bearer("acme"))
        assert later.status_code == 202


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    formatter = FactsFormatter(logging.Formatter("%(message)s"))
    return [
        formatter.format(record)
        for record in caplog.records
        if record.name == "orchestrator.http.audit"
    ]


async def test_who_asked_for_a_change_is_written_down_and_what_was_sent_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="orchestrator.http.audit")
    mine = bearer("acme")
    async with bounded() as (_, client):
        made = await client.post("/tasks", json=NEVER, headers=mine)
        path = f"/tasks/{made.json()['id']}"
        await client.get(path, headers=mine)
        named = {**mine, "x-request-id": "mine-1"}
        await client.post(f"{path}/cancel", headers=named)
        await client.post(f"{path}/cancel", headers=bearer("umbrella"))
        await client.post(f"{path}/resolve", json={}, headers=mine)
        await client.post("/v1/responses", json={}, headers=bearer("secret-wrong"))
        await client.post("/x%0d%0aforged=1", json={}, headers=mine)
    lines = audit_lines(caplog)
    assert len(lines) == 6
    facts = [
        dict(part.split("=", 1) for part in line.split()[2:]) for line in lines[:5]
    ]
    found = [(each["path"], each["status"], each.get("caller")) for each in facts]
    assert found == [
        ("/tasks", "202", "acme"),
        (f"{path}/cancel", "200", "acme"),
        (f"{path}/cancel", "404", "umbrella"),
        (f"{path}/resolve", "403", "acme"),
        ("/v1/responses", "401", None),
    ]
    assert facts[1]["request_id"] == "mine-1"
    assert all(line.isprintable() for line in lines)
    assert not any("prompt" in line or "secret" in line for line in lines)
