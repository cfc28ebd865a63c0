"""Histories that responses have for themselves: they come and go with their tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from conversations.errors import ConversationNotFound
from conversations.memory_store import InMemoryConversationStore
from orchestrator.errors import StoreUnavailable
from orchestrator.http.app import create_app
from orchestrator.parts import OrchestratorParts
from orchestrator.redis_store import RedisTaskStore
from orchestrator.settings import load_settings
from tests.conformance.task_steps import completed, turn
from tests.http_service import Service, serving

BASE = "http://127.0.0.1:8000"
KEY = {"Idempotency-Key": "once"}
ASK: dict[str, Any] = {"model": "assistant", "input": "hi"}


@asynccontextmanager
async def service() -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    async with (
        serving(lambda request: f"to {request.messages[-1].content}") as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        yield running, client


@asynccontextmanager
async def on_redis(
    url: str,
) -> AsyncIterator[tuple[OrchestratorParts, httpx.AsyncClient]]:
    """The service on a Redis; nothing runs what is submitted."""
    app = create_app(load_settings(storage={"redis_url": url}, agents={}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=BASE) as client,
    ):
        yield app.state.parts, client


async def ask(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    headers = fields.pop("headers", {})
    answer = await client.post("/v1/responses", json=ASK | fields, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def histories(service: Service) -> int:
    """How many conversations there are, hidden ones too."""
    store = service.celeriac.conversations._store  # type: ignore[attr-defined]
    assert isinstance(store, InMemoryConversationStore)
    return len(store._records)


REFUSED = {
    "no such agent": ({"model": "nobody"}, 404),
    "a key of another request": ({"input": "else", "headers": KEY}, 400),
    "too large": ({"input": "x" * 300_000}, 413),
    "a bad tool": ({"tools": [{"type": "function", "name": "?"}]}, 400),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_request_leaves_no_history(case: str) -> None:
    fields, status = REFUSED[case]
    async with service() as (running, client):
        first = await ask(client, headers=KEY)
        follower = {"previous_response_id": first["id"]}
        await ask(client, **follower)
        before = histories(running)
        for more in ({}, follower):
            body = {k: v for k, v in fields.items() if k != "headers"}
            answer = await client.post(
                "/v1/responses",
                json=ASK | body | more,
                headers=fields.get("headers"),
            )
            assert answer.status_code == status, answer.text
            assert histories(running) == before


async def test_a_repeated_request_leaves_no_second_history() -> None:
    async with service() as (running, client):
        first = await ask(client)
        follower: dict[str, Any] = {"previous_response_id": first["id"], "headers": KEY}
        one = await ask(client, **follower)
        before = histories(running)
        assert (await ask(client, **follower))["id"] == one["id"]
        assert histories(running) == before
        refused = await client.post(
            "/v1/responses",
            json=ASK | {"previous_response_id": one["id"]},
            headers=KEY,
        )
        assert refused.json()["error"]["code"] == "idempotency_conflict"
        third = await ask(client, previous_response_id=one["id"])
        asked = [m.content for m in running.model.requests[-1].messages]
        assert asked == ["hi", "to hi"] * 2 + ["hi"]
        assert third["id"] != one["id"]


async def test_a_store_that_did_not_answer_keeps_the_history_of_what_it_may_have_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as (running, client):
        first = await ask(client)
        await ask(client, previous_response_id=first["id"])
        store, before = running.celeriac._parts.store, histories(running)
        create = store.create

        async def silent(*given: Any, **more: Any) -> Any:
            await create(*given, **more)
            raise StoreUnavailable("no answer")

        monkeypatch.setattr(store, "create", silent)
        lost = await client.post(
            "/v1/responses", json=ASK | {"previous_response_id": first["id"]}
        )
        assert lost.status_code == 503
        assert histories(running) == before + 1


async def test_a_key_that_is_used_again_when_it_is_free_meets_no_old_history() -> None:
    async with (
        serving(lambda _: "ok", retention={"idempotency_ttl": "1ms"}) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        first = await ask(client, headers=KEY)
        again = await ask(client, headers=KEY)
        assert first["id"] != again["id"]
        asked = [m.content for m in running.model.requests[-1].messages]
        assert asked == ["hi"]


async def test_in_redis_a_history_comes_into_being_with_its_end(
    clean_redis_url: str,
) -> None:
    async with on_redis(clean_redis_url) as (parts, client):
        store = parts.store
        assert isinstance(store, RedisTaskStore)
        made = await client.post("/v1/responses", json=ASK | {"background": True})
        assert made.status_code == 200, made.text
        keys = [
            key async for key in store._client.scan_iter("*:default:conversation:*")
        ]
        assert keys == []
        path = f"/v1/responses/{made.json()['id']}"
        await client.post(f"{path}/cancel")
        keys = [
            key
            async for key in store._client.scan_iter("*:default:conversation:hidden-*")
        ]
        assert keys
        assert all([await store._client.pttl(key) > 0 for key in keys])
        await client.delete(path)
        keys = [
            key async for key in store._client.scan_iter("*:default:conversation:*")
        ]
        assert [key for key in keys if not key.endswith(":tombstone")] == []


async def test_a_history_stays_while_a_response_that_goes_on_in_it_is_under_way(
    clean_redis_url: str,
) -> None:
    async with on_redis(clean_redis_url) as (parts, client):
        store, talks = parts.store, parts.conversations

        async def ends(response: dict[str, Any]) -> str:
            task = await store.get("default", task_of(response))
            claimed = await store.claim(
                "default", task.id, worker="w", serves=["assistant"], lease_seconds=30
            )
            ending = replace(completed(claimed.lease), turn=turn(f"of {task.id}"))
            await store.finish(claimed.lease, ending, running_seconds=0)
            return str(task.conversation_id)

        def task_of(response: dict[str, Any]) -> str:
            return f"task-{response['id'].removeprefix('resp_')}"

        first = await ask(client, background=True)
        history = await ends(first)
        after = {"previous_response_id": first["id"], "background": True}
        second = await ask(client, **after)
        await client.delete(f"/v1/responses/{first['id']}")
        assert await ends(second) == history
        kept = await talks.get_messages(history)
        assert [each.turn for each in kept] == [task_of(first), task_of(second)]
        await client.delete(f"/v1/responses/{second['id']}")
        with pytest.raises(ConversationNotFound):
            await talks.get(history)


async def test_a_follower_that_is_deleted_leaves_the_history_that_it_went_on_from() -> (
    None
):
    async with service() as (running, client):
        first = await ask(client)
        follower = await ask(client, input="2", previous_response_id=first["id"])
        await client.delete(f"/v1/responses/{follower['id']}")
        third = await ask(client, input="3", previous_response_id=first["id"])
        asked = [m.content for m in running.model.requests[-1].messages]
        assert asked == ["hi", "to hi", "3"]
        for each in (third, first):
            assert histories(running) > 0
            await client.delete(f"/v1/responses/{each['id']}")
        assert histories(running) == 0


async def test_a_follower_that_begins_while_its_response_is_deleted_keeps_the_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is submitted after the deleting request has seen that there is none."""
    async with service() as (running, client):
        first = await ask(client)
        store, followers = running.celeriac._parts.store, []
        listed = store.list
        task = await running.celeriac.get(f"task-{first['id'].removeprefix('resp_')}")

        async def then_a_follower(*given: Any, **more: Any) -> Any:
            page = await listed(*given, **more)
            handle = await running.celeriac.submit(
                "assistant", {"prompt": "2"}, conversation_id=task.conversation_id
            )
            await handle.result(timeout=20)
            followers.append(handle)
            return page

        monkeypatch.setattr(store, "list", then_a_follower)
        deleted = await client.delete(f"/v1/responses/{first['id']}")
        assert deleted.status_code == 200
        (handle,) = followers
        third = await ask(client, input="3", previous_response_id=handle.id)
        asked = [m.content for m in running.model.requests[-1].messages]
        assert asked == ["hi", "to hi", "2", "to 2", "3"]
        assert third["status"] == "completed"


async def test_a_follower_whose_response_is_deleted_before_it_is_submitted_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as (running, client):
        first = await ask(client)
        store = running.celeriac._parts.store
        create = store.create

        async def after_the_deletion(*given: Any, **more: Any) -> Any:
            monkeypatch.undo()
            await client.delete(f"/v1/responses/{first['id']}")
            return await create(*given, **more)

        monkeypatch.setattr(store, "create", after_the_deletion)
        answer = await client.post(
            "/v1/responses", json=ASK | {"previous_response_id": first["id"]}
        )
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "previous_response_not_found"
        assert first["id"] in error["message"]
        assert histories(running) == 0


async def test_in_redis_a_conversation_is_deleted_before_its_first_turn_ends(
    clean_redis_url: str,
) -> None:
    async with on_redis(clean_redis_url) as (parts, client):
        turn = {
            "agent": "assistant",
            "input": {"prompt": "hi"},
            "conversation_id": "talk",
        }
        made = await client.post("/tasks", json=turn)
        assert made.status_code in (200, 201, 202), made.text
        hidden = await client.post("/v1/responses", json=ASK | {"background": True})
        task_id = f"task-{hidden.json()['id'].removeprefix('resp_')}"
        task = await parts.store.get("default", task_id)
        for name, status in (
            ("talk", 200),
            ("talk", 404),
            ("other", 404),
            ("a%3Ab", 404),
            (task.conversation_id, 404),
        ):
            answer = await client.delete(f"/v1/conversations/{name}")
            assert answer.status_code == status, (name, answer.text)
        late = await client.post("/tasks", json=turn)
        assert late.status_code == 404, late.text
        await parts.store.cancel("default", made.json()["id"])
        found = await client.get("/v1/conversations/talk")
        assert found.status_code == 404


@pytest.mark.parametrize("path", ["/v1/responses", "/tasks", "/v1/conversations/{}"])
async def test_a_history_of_ours_is_no_conversation_of_a_client(path: str) -> None:
    async with service() as (running, client):
        first = await ask(client)
        task = await running.celeriac.get(f"task-{first['id'].removeprefix('resp_')}")
        name = task.conversation_id
        bodies = {
            "/v1/responses": ASK | {"conversation": name},
            "/tasks": {"agent": "assistant", "conversation_id": name},
        }
        if path in bodies:
            answer = await client.post(path, json=bodies[path])
        else:
            answer = await client.get(path.format(name))
        assert answer.status_code == (422 if path == "/tasks" else 404), answer.text
        assert len((await running.celeriac.list()).tasks) == 1


async def test_a_history_that_has_expired_names_the_previous_response() -> None:
    async with service() as (running, client):
        first = await ask(client)
        task = await running.celeriac.get(f"task-{first['id'].removeprefix('resp_')}")
        await running.celeriac.conversations.delete(task.conversation_id or "")
        answer = await client.post(
            "/v1/responses", json=ASK | {"previous_response_id": first["id"]}
        )
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "previous_response_not_found"
        assert error["param"] == "previous_response_id"
