"""The pages' HTML: closed, escaped, and what each key may do on them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx
import pytest

from orchestrator.http.page.rendering import one_line, seconds, shown
from orchestrator.store import Ending
from orchestrator.task import Task, TaskFailure, TaskStatus
from tests.unit.orchestrator.http.page_visits import (
    run,
)
from tests.unit.orchestrator.http.serving import Served

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
