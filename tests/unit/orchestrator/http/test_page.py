"""The pages' HTML: closed, escaped, and what each key may do on them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx
import pytest

from orchestrator.http.auth import KEY_COOKIE
from orchestrator.http.page.rendering import one_line, seconds, shown
from orchestrator.http.submitter import SUBMITTED_BY
from orchestrator.journal import Step, StepKind
from orchestrator.store import Ending
from orchestrator.task import AwaitedCall, Task, TaskFailure, TaskResult, TaskStatus
from tests.unit.orchestrator.http.serving import BASE, Served, key_settings, serving

KEYS = key_settings(
    reader=("acme", ("read",)),
    approver=("acme", ("read", "approve", "cancel", "submit")),
    rival=("rival", ("admin",)),
    blind=("acme", ("submit",)),
)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</pre></textarea></details><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- <style>@import 'x'",
    "\u202etxt.exe\u2066\x1b]0;x\x07",
    "a" * 300_000,
)


HISTORY = r'href="(/ui/conversations/[^"]+)"'


class Markup(HTMLParser):
    """What a browser would make of a page: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def check_harmless(text: str) -> None:
    """No script, style or handler that is not ours, and no link that runs."""
    for tag, attributes in Markup(text).tags:
        assert tag not in ("img", "style", "iframe", "object", "textarea"), tag
        if tag == "script":
            assert attributes.get("src") == "/ui/static/page.js"
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert "style" not in attributes
        for name in ("href", "src", "action"):
            target = attributes.get(name) or "/"
            assert target.startswith(("/", "#", "http://127.0.0.1:5555")), target
    assert "alert(1)</script>" not in text
    assert not set(text) & {"\u202e", "\u2066", "\x1b", "\x07"}


@pytest.fixture
async def at_home() -> AsyncIterator[Served]:
    async with serving(http={"flower_url": "http://127.0.0.1:5555"}) as served:
        yield served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(http={"keys": KEYS}, tenant="acme") as served:
        yield served


def logged_in(key: str) -> dict[str, str]:
    return {"Cookie": f"{KEY_COOKIE}={key}", "Sec-Fetch-Site": "same-origin"}


async def run(served: Served, text: str, *, tenant: str = "default") -> Task:
    """A task with hostile words wherever words can stand."""
    store = served.parts.store
    task = Task(
        tenant=tenant,
        agent_name="researcher",
        input={"prompt": text},
        tags=(text[:200],),
        metadata={text[:50]: text},
    )
    await store.create([task])
    claim = await store.claim(
        tenant, task.id, worker=text[:200], serves=["researcher"], lease_seconds=60
    )
    calls = [{"id": "a", "name": text[:200], "arguments": {text[:50]: text}}]
    message = {"content": text, "reasoning": text, "tool_calls": calls}
    steps = (
        Step(
            key="completion:1",
            kind=StepKind.COMPLETION,
            name=text[:200],
            outcome={"message": message},
        ),
        Step(
            key="tool:1:a",
            kind=StepKind.TOOL_CALL,
            name=text[:200],
            error=text[:60],
            outcome={"content": text},
        ),
    )
    for step in steps:
        await store.record_step(claim.lease, step)
    result = TaskResult(task_id=task.id, content=text, output={"answer": text})
    ending = Ending(status=TaskStatus.COMPLETED, result=result)
    await store.finish(claim.lease, ending, running_seconds=1)
    return task


async def wait_for_decision(served: Served, **fields: object) -> Task:
    store = served.parts.store
    task = Task(tenant="acme", agent_name="researcher", **fields)
    await store.create([task])
    claim = await store.claim(
        "acme", task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    call = AwaitedCall(call_id="1:a", tool="refund")
    await store.park(claim.lease, [call], running_seconds=0)
    return task


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_a_model_or_user_wrote_is_shown_and_not_run(
    at_home: Served, text: str
) -> None:
    task = await run(at_home, text)
    conversations = at_home.orchestrator.conversations
    await conversations.create(conversation_id="c", metadata={"title": text[:200]})
    await conversations.add_message("c", {"role": "user", "content": text[:9000]})
    for path in (
        "/",
        "/?part=true",
        f"/?{urlencode({'tag': text[:200]})}",
        f"/ui/tasks/{task.id}",
        f"/ui/tasks/{task.id}?part=true",
        "/ui/conversations",
        "/ui/conversations/c",
        "/ui/agents",
        f"/ui/login?{urlencode({'next': text[:1000]})}",
    ):
        answer = await at_home.client.get(path)
        assert answer.status_code == 200, path
        check_harmless(answer.text)
        assert len(answer.text) < 300_000


async def test_pages_carry_a_strict_policy_and_are_not_kept(at_home: Served) -> None:
    for path in ("/", "/ui/login", "/ui/tasks/nothing", "/ui/static/page.css"):
        headers = (await at_home.client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
    assert (await at_home.client.get("/")).headers["cache-control"] == "no-store"


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
    assert (await served.orchestrator.get(task.id)).status is TaskStatus.PENDING
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


async def test_a_filter_that_makes_no_sense_is_said_on_a_page(at_home: Served) -> None:
    for query in ("status=lost", "cursor=%00", "tag=" + "x" * 300, "agent=../x"):
        answer = await at_home.client.get(f"/?{query}")
        assert answer.status_code == 422, query
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_failure_and_what_may_be_done_are_shown(at_home: Served) -> None:
    store = at_home.parts.store
    task = Task(agent_name="researcher", input={"prompt": "x"})
    await store.create([task])
    page = (await at_home.client.get(f"/ui/tasks/{task.id}")).text
    assert "Cancel the task" in page
    assert f"http://127.0.0.1:5555/task/{task.id}" in page
    claim = await store.claim(
        "default", task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    failure = TaskFailure(code="boom", message="It broke; mend it.", attempt=1)
    ending = Ending(status=TaskStatus.FAILED, failure=failure)
    await store.finish(claim.lease, ending, running_seconds=1)
    page = (await at_home.client.get(f"/ui/tasks/{task.id}")).text
    assert "It broke; mend it." in page
    assert "Run it again" in page
    retried = await at_home.client.post(f"/ui/tasks/{task.id}/retry")
    assert retried.status_code == 303
    assert retried.headers["location"] != f"/ui/tasks/{task.id}"


async def test_pages_go_on_where_they_end(at_home: Served) -> None:
    tasks = [
        Task(agent_name="researcher", input={"prompt": f"n{i}"}) for i in range(60)
    ]
    await at_home.parts.store.create(tasks)
    first = (await at_home.client.get("/?agent=researcher")).text
    assert first.count("<tr>") == 51
    href = next(
        attributes["href"]
        for tag, attributes in Markup(first).tags
        if tag == "a" and "cursor=" in (attributes.get("href") or "")
    )
    assert "agent=researcher" in href
    second = (await at_home.client.get(href)).text
    assert second.count("<tr>") == 11


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0123, "12 ms"),
        (59.94, "59.9 s"),
        (61, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_read_well(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_long_and_strange_text_is_cut_and_written_out() -> None:
    assert shown("a\x00b\u202ec\nd") == "a\\x00b\\x202ec\nd"
    assert shown("x" * 30, 10) == "x" * 10 + "… (20 more characters)"
    assert one_line("a\n\n b", 10) == "a b"
    assert len(one_line("word " * 100, 40)) == 40


async def test_the_static_files_are_these_alone(at_home: Served) -> None:
    client: httpx.AsyncClient = at_home.client
    for name in ("page.css", "page.js", "icon.svg"):
        assert (await client.get(f"/ui/static/{name}")).status_code == 200
    for name in ("base.html", "..%2f__init__.py", "%2e%2e", "page.css%00", ""):
        answer = await client.get(f"/ui/static/{name}")
        assert answer.status_code in (404, 405), name


async def test_a_task_leads_to_a_history_that_can_be_shown(at_home: Served) -> None:
    talk = (await at_home.client.post("/v1/conversations", json={})).json()["id"]
    ask = {"model": "researcher", "input": "hi", "background": True}
    for more, shown_before in (({}, False), ({"conversation": talk}, True)):
        made = await at_home.client.post("/v1/responses", json=ask | more)
        url = f"/ui/tasks/task-{made.json()['id'].removeprefix('resp_')}"
        found = re.search(HISTORY, (await at_home.client.get(url)).text)
        assert (found is not None) is shown_before
        await at_home.client.post(f"/v1/responses/{made.json()['id']}/cancel")
        found = re.search(HISTORY, (await at_home.client.get(url)).text)
        assert found is not None
        assert (await at_home.client.get(found[1])).status_code == 200
