"""What every answer carries and tells: crowds, pages of other origins, tenants."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from orchestrator.http.server import SPARE_CONNECTIONS
from tests.http_service import serving
from tests.integration.http_doors import (
    BODIES,
    bearer,
    check_shape,
    get,
    keys,
    service,
)
from workers.errors import RequestRejected

APP = "https://app.example"
PAGE = {"origin": APP}


async def test_too_many_connections_are_asked_to_come_later_and_liveness_answers() -> (
    None
):
    async with service(max_connections=3) as (running, _), AsyncExitStack() as stack:
        host, _, port = running.url.removeprefix("http://").partition(":")
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
        async with asyncio.timeout(20):
            while len(running.servers[0].server_state.connections) < 3:
                await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
            for path in ("/tasks", "/v1/models"):
                answer = await client.get(path)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "2"
                assert answer.headers["connection"] == "close"
                assert "x-request-id" in answer.headers
                assert "too_many_connections" in answer.text
                check_shape(path, answer)
            assert (await client.get("/healthz")).status_code == 200


async def test_connections_far_beyond_the_bound_are_cut() -> None:
    async with service(max_connections=1) as (running, _), AsyncExitStack() as stack:
        host, _, port = running.url.removeprefix("http://").partition(":")
        for _ in range(SPARE_CONNECTIONS + 1):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        writer.write(get("/healthz"))
        async with asyncio.timeout(20):
            try:
                answer = await reader.read()
            except ConnectionError:
                answer = b""
        assert answer == b""


PLAIN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an answer": ("GET", "/agents", {"headers": bearer("mine")}),
    "no key": ("GET", "/agents", {}),
    "not found": ("GET", "/v1/responses/resp_x", {"headers": bearer("mine")}),
    "no route": ("GET", "/nothing", {}),
    "too large": ("POST", "/tasks", {"content": b"x" * 20_000}),
    "compressed": ("POST", "/tasks", {"headers": {"content-encoding": "br"}}),
    "too long": ("GET", "/agents/" + "x" * 9000, {}),
    "a failure of ours": ("GET", "/broken", {}),
}


@pytest.mark.parametrize("case", PLAIN)
async def test_a_page_that_may_ask_may_read_every_answer(case: str) -> None:
    method, path, options = PLAIN[case]
    http = {"keys": keys(), "cors_origins": [APP], "max_body_bytes": 10_000}
    async with service(**http) as (running, client):

        async def broken() -> None:
            raise RuntimeError("a secret detail")

        app = running.servers[0].config.app
        app.add_api_route("/broken", broken)  # type: ignore[union-attr]
        headers = options.get("headers", {}) | PAGE
        answer = await client.request(method, path, **options | {"headers": headers})
        assert answer.headers["access-control-allow-origin"] == APP
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"location", "retry-after", "x-request-id"} <= {*exposed.split(", ")}
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_pages_may_use_the_methods_that_there_are(method: str) -> None:
    async with service(keys=keys(), cors_origins=[APP]) as (_, client):
        asked = {"access-control-request-method": method}
        asked["access-control-request-headers"] = "authorization,idempotency-key"
        answer = await client.options("/schedules/x", headers=PAGE | asked)
        assert (answer.status_code == 200) is (method != "PATCH")
        assert "x-request-id" in answer.headers


async def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    """As with every common parser; a gateway before us must read it so too."""
    async with service() as (running, client):
        content = b'{"agent": "nobody", "agent": "assistant", "input": {}}'
        answer = await client.post(
            "/tasks", content=content, headers={"content-type": "application/json"}
        )
        assert answer.json()["agent"] == "assistant"
        (task,) = (await running.celeriac.list()).tasks
        assert task.agent_name == "assistant"


async def test_a_tenant_sees_how_its_own_runs_fared_and_no_others() -> None:
    refused = RequestRejected("no", endpoint="http://127.0.0.1:9/v1", status=400)
    operator = keys()["mine"] | {"scopes": ["read", "operate"]}
    async with (
        serving([refused, "ok"], http={"keys": keys() | {"mine": operator}}) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        for _ in range(2):
            handle = await running.celeriac.submit(
                "assistant", BODIES["/tasks"]["input"], tenant="acme"
            )
            assert [event async for event in handle.events()]
        rates = {}
        for key in ("mine", "reader", "other"):
            one = await client.get("/agents/assistant", headers=bearer(key))
            all_of = await client.get("/agents", headers=bearer(key))
            assert one.json() in all_of.json()["agents"]
            rates[key] = one.json()["failure_rate"], one.json()["health"]
        assert [rate for rate, _ in rates.values()] == [0.5, 0.5, 0.0]
        assert rates["mine"][1]["last_failure_code"] == "request_rejected"
        assert rates["reader"][1]["last_failure_code"] is None
        assert rates["other"][1]["failures"] == 0
