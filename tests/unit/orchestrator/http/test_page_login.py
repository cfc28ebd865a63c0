"""Who may see the pages and act on them, and how the login is kept."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from orchestrator.http.auth import KEY_COOKIE
from orchestrator.journal import Action
from orchestrator.said import SUBMITTED_BY
from orchestrator.task import TaskStatus
from tests.unit.orchestrator.http.page_visits import (
    KEYS,
    decisions_on,
    logged_in,
    run,
    wait_for_decision,
)
from tests.unit.orchestrator.http.serving import BASE, Served, serving

PAGES = (
    "/",
    "/ui/tasks/{id}",
    "/ui/conversations",
    "/ui/conversations/c",
    "/ui/agents",
)
CHANGES = ("/ui/tasks/{id}/cancel", "/ui/tasks/{id}/retry", "/ui/tasks/{id}/resolve")


async def test_without_a_key_every_page_leads_to_the_login(served: Served) -> None:
    task = await run(served, "secret words", tenant="acme")
    for key in ("", "wrong"):
        headers = logged_in(key) if key else {}
        for path in PAGES:
            url = path.format(id=task.id)
            answer = await served.client.get(url, headers=headers)
            assert answer.status_code == 303, url
            assert answer.headers["location"].startswith("/ui/login?next=/")
            assert "secret words" not in answer.text
        for path in CHANGES:
            answer = await served.client.post(path.format(id=task.id), headers=headers)
            assert answer.status_code == 303, path
    part = await served.client.get("/?part=true", headers={"X-Part": "1"})
    assert part.status_code == 401


async def test_another_tenants_task_is_as_unknown_as_none(served: Served) -> None:
    await served.orchestrator.conversations.create(conversation_id="c", tenant="acme")
    task = await run(served, "secret words", tenant="acme")
    for method, path in (
        ("GET", "/ui/tasks/{id}"),
        ("GET", "/ui/conversations/{id}"),
        *(("POST", path) for path in CHANGES),
    ):
        known = "c" if "conversations" in path else task.id
        theirs, unknown = [
            await served.client.request(
                method,
                path.format(id=name),
                headers=logged_in("rival"),
                content="decision=done&call_id=1:a",
            )
            for name in (known, "task-none")
        ]
        assert theirs.text == unknown.text.replace("task-none", known), path
        assert theirs.status_code == unknown.status_code == 404, path
        assert "secret words" not in theirs.text
    listed = await served.client.get("/", headers=logged_in("rival"))
    assert "secret words" not in listed.text
    agents = (await served.client.get("/ui/agents", headers=logged_in("rival"))).text
    assert "<h2>Workers</h2>" not in agents


async def test_a_key_without_the_scope_sees_no_button_and_is_refused(
    served: Served,
) -> None:
    task = await wait_for_decision(served)
    url = f"/ui/tasks/{task.id}"
    page = (await served.client.get(url, headers=logged_in("reader"))).text
    assert "<button" not in page.partition("<main")[2]
    for path in CHANGES:
        answer = await served.client.post(
            path.format(id=task.id), headers=logged_in("reader")
        )
        assert answer.status_code == 403, path
    blind = await served.client.get("/", headers=logged_in("blind"))
    assert blind.status_code == 403
    assert (await served.orchestrator.get(task.id)).status is TaskStatus.WAITING


async def test_a_decision_goes_through_and_not_on_ones_own_task(served: Served) -> None:
    task = await wait_for_decision(served)
    form = urlencode({"decision": "done", "call_id": "1:a", "output": '{"ok": true}'})
    answer = await served.client.post(
        f"/ui/tasks/{task.id}/resolve", content=form, headers=logged_in("approver")
    )
    assert answer.status_code == 303
    [decision] = await decisions_on(served, task)
    assert (decision.action, decision.output) == (Action.DONE, {"ok": True})
    own = await wait_for_decision(served, metadata={SUBMITTED_BY: "approver"})
    page = await served.client.get(f"/ui/tasks/{own.id}", headers=logged_in("approver"))
    assert 'value="done"' not in page.text
    refused = await served.client.post(
        f"/ui/tasks/{own.id}/resolve", content=form, headers=logged_in("approver")
    )
    assert refused.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ],
)
async def test_another_sites_page_cannot_use_the_login(
    served: Served, headers: dict[str, str]
) -> None:
    task = await wait_for_decision(served)
    cookie = {"Cookie": f"{KEY_COOKIE}=approver"}
    answer = await served.client.post(
        f"/ui/tasks/{task.id}/cancel", headers=cookie | headers
    )
    assert answer.status_code == 403
    native = await served.client.post(
        f"/tasks/{task.id}/cancel", headers=cookie | headers
    )
    assert native.status_code == 403
    assert (await served.orchestrator.get(task.id)).status is TaskStatus.WAITING
    own = cookie | {"Origin": BASE}
    answer = await served.client.post(f"/ui/tasks/{task.id}/cancel", headers=own)
    assert answer.status_code == 303


async def test_the_login_keeps_a_key_that_may_read(served: Served) -> None:
    for key in ("wrong", "blind", ""):
        form = urlencode({"key": key, "next": "/ui/agents"})
        refused = await served.client.post("/ui/login", content=form)
        assert refused.status_code == 401, key
        assert "set-cookie" not in refused.headers
    form = urlencode({"key": "reader", "next": "/ui/agents"})
    answer = await served.client.post("/ui/login", content=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/agents")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    left = await served.client.post("/ui/logout")
    assert "max-age=0" in left.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil", "\\/evil", "/\r\nx"]
)
async def test_the_login_leads_nowhere_else(served: Served, target: str) -> None:
    form = urlencode({"key": "reader", "next": target})
    answer = await served.client.post("/ui/login", content=form)
    assert answer.headers["location"] == "/"


async def test_the_cookie_travels_over_tls_alone_behind_a_proxy() -> None:
    settings = {"keys": KEYS, "behind_proxy": True}
    async with serving(http=settings, tenant="acme") as served:
        form = urlencode({"key": "reader"})
        answer = await served.client.post("/ui/login", content=form)
        assert "secure" in answer.headers["set-cookie"].lower()
