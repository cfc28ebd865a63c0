"""What the doors refuse by itself, and who counts as a submitter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from urllib.parse import urlencode

import httpx
import pytest

from orchestrator.http.auth import KEY_COOKIE
from orchestrator.said import SUBMITTED_BY
from orchestrator.store import Claim
from orchestrator.task import AwaitedCall, Task, TaskStatus
from tests.unit.orchestrator.http.serving import BASE, Served, key_settings, serving

_BOTH = ("read", "submit", "cancel", "approve")
FORM = {"type": "json_schema", "name": "f"}
OURS = {"celeriac.response": "x"}
NO_SCHEMA = {"name": "f", "schema": {"$ref": "#/nowhere"}}
LARGE_SCHEMA = {"description": "x" * 140_000}
BAD_SCHEMA = {"name": "f", "parameters": 1}
KEYS = key_settings(
    alice=("acme", _BOTH),
    bob=("acme", _BOTH),
    writer=("acme", ("submit",)),
    canceller=("acme", ("cancel",)),
    approver=("acme", ("approve",)),
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


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("responses", {"input": "a\0"}, "input"),
        (
            "responses",
            {"input": [{"role": "user", "content": "a\0"}]},
            "input[0].content",
        ),
        ("responses", {"input": 5}, "input"),
        ("responses", {"input": ["x"]}, "input.0"),
        ("responses", {"input": "x", "conversation": []}, "conversation"),
        ("responses", {"input": "x", "conversation": {"id": 5}}, "conversation.id"),
        ("responses", {"input": "x", "conversation": {}}, "conversation.id"),
        ("responses", {"input": "x", "prompt": {"id": "pmpt_1"}}, "prompt"),
        ("responses", {}, "input"),
        ("responses", {"input": "x", "model": "a b"}, "model"),
        ("responses", {"input": "x", "instructions": "a\0"}, "instructions"),
        ("responses", {"input": "x", "metadata": {"a": "b\0"}}, "metadata.a"),
        ("responses", {"input": "x", "metadata": {"a\0": "b"}}, "metadata"),
        ("responses", {"input": "x", "metadata": OURS}, "metadata"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "metadata": OURS},
            "metadata",
        ),
        (
            "responses",
            {
                "input": "x",
                "tools": [{"type": "function", "name": "f", "description": "a\0"}],
            },
            "tools[0].description",
        ),
        (
            "responses",
            {"input": "x", "text": {"format": {**FORM, "schema": {"type": 5}}}},
            "text.format.schema",
        ),
        (
            "responses",
            {"input": "x", "text": {"format": {**FORM, "schema": LARGE_SCHEMA}}},
            "text.format.schema",
        ),
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": "x"}],
                "response_format": {"type": "json_schema", "json_schema": NO_SCHEMA},
            },
            "response_format.json_schema.schema",
        ),
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": "x"}],
                "metadata": {"a": "b\0"},
            },
            "metadata.a",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "a\0"}]},
            "messages[0].content",
        ),
        ("chat/completions", {"messages": [None]}, "messages.0"),
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": "x"}],
                "functions": [{"name": "f"}],
            },
            "functions",
        ),
    ],
)
async def test_a_refusal_names_the_field_that_the_client_sent(
    at_home: Served, path: str, body: dict[str, object], param: str
) -> None:
    answer = await at_home.client.post(
        f"/v1/{path}", json={"model": "researcher", **body}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("kind", ["function_call", "mcp_call"])
async def test_a_call_id_given_twice_is_refused(at_home: Served, kind: str) -> None:
    call = {"type": kind, "name": "f", "arguments": "{}", "call_id": "c", "id": "c"}
    question = {"role": "user", "content": "x"}
    body = {"model": "researcher", "input": [question, call, call]}
    answer = await at_home.client.post("/v1/responses", json=body)
    assert answer.status_code == 400
    field = "call_id" if kind == "function_call" else "id"
    assert answer.json()["error"]["param"] == f"input[2].{field}"


async def test_a_call_id_given_twice_in_a_chat_is_refused(at_home: Served) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call, call]},
    ]
    body = {"model": "researcher", "messages": messages}
    answer = await at_home.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[1].tool_calls[1].id"


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


async def test_a_key_that_may_not_read_is_not_shown_what_it_acts_on(
    served: Served,
) -> None:
    task = await ended(served, conversation_id="talk")
    background = {"model": "researcher", "input": "mysecret", "background": True}
    response = await served.client.post(
        "/v1/responses", json=background, headers=bearer("alice")
    )
    name = response.json()["id"]
    for deed, key in (("retry", "writer"), ("cancel", "canceller")):
        url = f"/tasks/{task.id}/{deed}"
        told = await served.client.post(url, headers=bearer(key))
        assert told.is_success
        assert told.json()["input"] == told.json()["metadata"] == {}
        assert told.json()["conversation_id"] is None
        whole = await served.client.post(url, headers=bearer("bob"))
        assert whole.json()["input"] == {"prompt": "x"}
    url = f"/v1/responses/{name}/cancel"
    told = await served.client.post(url, headers=bearer("canceller"))
    assert (told.json()["id"], told.json()["status"]) == (name, "cancelled")
    assert told.json()["conversation"] is None
    await served.client.post(url, headers=bearer("alice"))


async def test_what_a_key_has_submitted_itself_is_shown_to_it(served: Served) -> None:
    body = {"agent": "researcher", "input": {"prompt": "hi"}}
    headers = bearer("writer") | {"Idempotency-Key": "1"}
    for status in (202, 200):
        told = await served.client.post("/tasks", json=body, headers=headers)
        assert (told.status_code, told.json()["input"]) == (status, body["input"])


@pytest.mark.parametrize("rule", ["interrupt", "rollback"])
async def test_who_may_not_cancel_ends_no_turn_by_another(
    served: Served, rule: str
) -> None:
    body = {"agent": "researcher", "input": {"prompt": "x"}, "conversation_id": "talk"}
    first = await served.client.post("/tasks", json=body, headers=bearer("alice"))
    body["when_busy"] = rule
    refused = await served.client.post("/tasks", json=body, headers=bearer("writer"))
    assert refused.status_code == 403
    assert refused.json()["code"] == "insufficient_scope"
    task = await served.orchestrator.get(first.json()["id"], tenant="acme")
    assert task.status is TaskStatus.PENDING
    taken = await served.client.post("/tasks", json=body, headers=bearer("bob"))
    assert taken.status_code == 202


async def test_who_has_steered_a_run_does_not_decide_on_its_calls(
    served: Served,
) -> None:
    store = served.parts.store
    body = {"agent": "researcher", "input": {"prompt": "x"}, "conversation_id": "talk"}
    made = await served.client.post("/tasks", json=body, headers=bearer("alice"))
    task_id = made.json()["id"]
    claim = await store.claim(
        "acme", task_id, worker="w", serves=["researcher"], lease_seconds=60
    )
    assert isinstance(claim, Claim)
    body["when_busy"] = "steer"
    joined = await served.client.post("/tasks", json=body, headers=bearer("bob"))
    assert joined.json()["id"] == task_id
    await store.take_messages(claim.lease, "messages:1:1")
    call = AwaitedCall(call_id="1:a", tool="pay")
    await store.park(claim.lease, [call], running_seconds=0)
    decision = {"call_id": "1:a", "decision": "run"}
    for key, status in (("alice", 403), ("bob", 403), ("approver", 200)):
        told = await served.client.post(
            f"/tasks/{task_id}/resolve", json=decision, headers=bearer(key)
        )
        assert told.status_code == status, key


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


async def test_who_may_not_cancel_cannot_end_a_task_by_deleting_it(
    served: Served,
) -> None:
    handle = await served.orchestrator.submit(
        "researcher", {"prompt": "x"}, tenant="acme"
    )
    url = f"/v1/responses/{handle.id}"
    refused = await served.client.delete(url, headers=bearer("writer"))
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "insufficient_scope"
    task = await served.orchestrator.get(handle.id, tenant="acme")
    assert not task.status.is_terminal
    await served.orchestrator.cancel(handle.id, tenant="acme")
    answer = await served.client.delete(url, headers=bearer("writer"))
    assert answer.status_code == 200


async def test_a_failure_of_ours_is_answered_as_all_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("a secret detail")

    served.app.add_api_route("/broken", broken, methods=["POST"])
    transport = httpx.ASGITransport(app=served.app, raise_app_exceptions=False)
    caplog.set_level("INFO", logger="orchestrator.http.audit")
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        answer = await client.post("/broken", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    noted = [each for each in caplog.records if each.message == "request answered"]
    assert [vars(each)["status"] for each in noted] == [500]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"text": {"format": {"type": "json_schema", "schema": "s"}}},
            "text.format.schema",
        ),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"tools": [{"type": "function", "name": "bad name!"}]}, "tools[0].name"),
    ],
)
async def test_values_that_are_none_are_refused_by_name(
    at_home: Served, fields: dict[str, object], param: str
) -> None:
    body = {"model": "researcher", "input": "x", "background": True, **fields}
    answer = await at_home.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "bad name!"}}]},
            "tools[0].function.name",
        ),
        (
            {"tools": [{"type": "function", "function": BAD_SCHEMA}]},
            "tools[0].function.parameters",
        ),
    ],
)
async def test_a_chat_names_its_own_fields(
    at_home: Served, fields: dict[str, object], param: str
) -> None:
    question = [{"role": "user", "content": "x"}]
    body = {"model": "researcher", "messages": question, **fields}
    answer = await at_home.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_probes_may_ask_for_the_head_alone(at_home: Served) -> None:
    answer = await at_home.client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_what_is_no_json_names_no_field(at_home: Served) -> None:
    answer = await at_home.client.post(
        "/tasks", content="{nope", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "field" not in answer.json()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, TaskStatus.CANCELLED), ({"Idempotency-Key": "k"}, TaskStatus.PENDING)],
)
@pytest.mark.parametrize("reader", ["leaves", "takes nothing"])
async def test_a_stream_that_may_be_asked_for_again_is_not_cancelled(
    headers: dict[str, str], status: TaskStatus, reader: str
) -> None:
    async with serving(http={"send_timeout": 0.05}) as at_home:
        await stream_to(reader, at_home, headers)
        (task,) = (await at_home.orchestrator.list()).tasks
        assert task.status is status


async def stream_to(reader: str, at_home: Served, headers: dict[str, str]) -> None:
    body = {
        "model": "researcher",
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    request = at_home.client.build_request(
        "POST", "/v1/chat/completions", json=body, headers=headers
    )
    begun = asyncio.Event()
    asked = iter([{"type": "http.request", "body": request.content}])

    async def receive() -> dict[str, object]:
        if (first := next(asked, None)) is not None:
            return first
        await begun.wait()
        if reader == "takes nothing":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, object]) -> None:
        if message["type"] == "http.response.body":
            begun.set()
            if reader == "takes nothing":
                await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "POST",
        "path": request.url.path,
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    await at_home.app(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/tasks", "GET, POST"),
        ("/v1/conversations/x", "DELETE, GET, POST"),
        ("/schedules/x", "DELETE, PUT"),
        ("/readyz", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_taken_is_told_all_that_are(
    at_home: Served, path: str, methods: str
) -> None:
    answer = await at_home.client.options(path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == methods
