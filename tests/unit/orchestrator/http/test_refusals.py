"""What the doors refuse by itself, and who counts as a submitter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from orchestrator.http.auth import KEY_COOKIE
from orchestrator.http.submitter import SUBMITTED_BY
from orchestrator.task import Task
from tests.unit.orchestrator.http.serving import BASE, Served, key_settings, serving

_BOTH = ("read", "submit", "cancel", "approve")
KEYS = key_settings(
    alice=("acme", _BOTH), bob=("acme", _BOTH), writer=("acme", ("submit",))
)


@pytest.fixture
async def at_home() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(http={"keys": KEYS}, tenant="acme") as served:
        yield served


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ended(served: Served, **fields: object) -> Task:
    handle = await served.orchestrator.submit(
        "researcher",
        {"prompt": "x"},
        metadata={SUBMITTED_BY: "alice", "mine": 1},
        tenant="acme",
        **fields,  # type: ignore[arg-type]
    )
    return await served.orchestrator.cancel(handle.id, tenant="acme")


@pytest.mark.parametrize("kind", ["function_call", "mcp_call"])
async def test_a_call_id_given_twice_is_refused(at_home: Served, kind: str) -> None:
    call = {"type": kind, "name": "f", "arguments": "{}", "call_id": "c", "id": "c"}
    question = {"role": "user", "content": "x"}
    body = {"model": "researcher", "input": [question, call, call]}
    answer = await at_home.client.post("/v1/responses", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("input[2]")


async def test_a_call_id_given_twice_in_a_chat_is_refused(at_home: Served) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call, call]},
    ]
    body = {"model": "researcher", "messages": messages}
    answer = await at_home.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("messages[2]")


async def test_who_retries_has_submitted_the_new_task(served: Served) -> None:
    task = await ended(served)
    url = f"/tasks/{task.id}/retry"
    answer = await served.client.post(url, headers=bearer("bob"))
    assert answer.status_code == 202
    new = await served.orchestrator.get(answer.json()["id"], tenant="acme")
    assert new.metadata == {SUBMITTED_BY: "bob", "mine": 1}
    again = await served.client.post(url, headers=bearer("alice"))
    assert again.json()["id"] == new.id
    kept = await served.orchestrator.get(new.id, tenant="acme")
    assert kept.metadata == new.metadata


async def test_who_retries_on_the_page_has_submitted_the_new_task(
    served: Served,
) -> None:
    task = await ended(served)
    cookie = {"Cookie": f"{KEY_COOKIE}=bob", "Origin": BASE}
    answer = await served.client.post(f"/ui/tasks/{task.id}/retry", headers=cookie)
    assert answer.status_code == 303
    new_id = answer.headers["location"].rsplit("/", 1)[1]
    new = await served.orchestrator.get(new_id, tenant="acme")
    assert new.metadata[SUBMITTED_BY] == "bob"


async def test_what_a_retry_waits_for_was_submitted_by_who_retries(
    served: Served,
) -> None:
    first = await ended(served)
    second = await ended(served, after=[first.id])
    answer = await served.client.post(
        f"/tasks/{second.id}/retry", headers=bearer("bob")
    )
    new = await served.orchestrator.get(answer.json()["id"], tenant="acme")
    before = [await served.orchestrator.get(each, tenant="acme") for each in new.after]
    assert [task.metadata[SUBMITTED_BY] for task in before] == ["bob"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
async def test_another_sites_page_cannot_log_in_or_out(
    served: Served, headers: dict[str, str]
) -> None:
    form = urlencode({"key": "bob", "next": "/"})
    for path in ("/ui/login", "/ui/logout"):
        answer = await served.client.post(path, content=form, headers=headers)
        assert answer.status_code == 403, path
        assert "set-cookie" not in answer.headers
    own = {"Origin": BASE}
    answer = await served.client.post("/ui/login", content=form, headers=own)
    assert answer.status_code == 303


async def test_an_origin_that_is_none_is_refused(at_home: Served) -> None:
    answer = await at_home.client.get("/tasks", headers={"Origin": "http://["})
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin_refused"
