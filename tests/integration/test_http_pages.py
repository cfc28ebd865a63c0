"""Every page of the route list, as two tenants and with keys that do not do."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from orchestrator.http.auth import KEY_COOKIE
from tests.integration.http_doors import (
    BODIES,
    bearer,
    filled,
    fixtures,
    keys,
    service,
)
from tests.integration.test_http_scopes import NEEDS, OPEN

CANARY = "canary4711"
PAGES = [
    (route, *route.split(" "), need)
    for route, need in NEEDS.items()
    if (route.endswith(" /") or " /ui" in route) and need != OPEN
]
FORM = {"call_id": "c", "decision": "run"}
SAME_SITE = {"sec-fetch-site": "same-origin"}


def logged_in(key: str) -> dict[str, str]:
    return {"Cookie": f"{KEY_COOKIE}={key}"} | SAME_SITE


async def stored(client: httpx.AsyncClient) -> dict[str, str]:
    """One of each thing of the tenant `acme`, each with a word that tells it."""
    ids = await fixtures(client)
    mine = bearer("mine")
    body = BODIES["/tasks"] | {"input": {"prompt": CANARY}, "tags": [CANARY]}
    ids["task_id"] = (await client.post("/tasks", json=body, headers=mine)).json()["id"]
    await client.post(
        f"/v1/conversations/{ids['conversation_id']}/items",
        json={"items": [{"role": "user", "content": CANARY}]},
        headers=mine,
    )
    return ids


async def ask(
    client: httpx.AsyncClient, method: str, url: str, headers: dict[str, str]
) -> httpx.Response:
    form: Any = FORM if method == "POST" else None
    return await client.request(method, url, data=form, headers=headers)


def test_the_pages_are_found() -> None:
    assert len(PAGES) >= 8


@pytest.mark.parametrize(("route", "method", "path", "need"), PAGES)
async def test_a_page_is_shown_to_who_may_see_it(
    route: str, method: str, path: str, need: str
) -> None:
    async with service(keys=keys()) as (running, client):
        ids = await stored(client)
        url = filled(path, ids)
        before = await running.celeriac.get(ids["task_id"], tenant="acme")
        count = len((await running.celeriac.list(tenant="acme")).tasks)
        for key in ("none", "secret-wrong", "expired"):
            for headers in ({}, bearer(key), logged_in(key), {"Authorization": key}):
                answer = await ask(client, method, url, headers)
                assert answer.status_code == 303, (route, key)
                assert answer.headers["location"].startswith("/ui/login"), route
                assert CANARY not in answer.text
        lacking = ["powerless", "submitter" if need != "submit" else "reader"]
        for key in lacking:
            for headers in (bearer(key), logged_in(key)):
                answer = await ask(client, method, url, headers)
                assert answer.status_code == 403, (route, key)
                assert CANARY not in answer.text
        after = await running.celeriac.get(ids["task_id"], tenant="acme")
        assert after.cancel_requested_at == before.cancel_requested_at
        assert len((await running.celeriac.list(tenant="acme")).tasks) == count
        if method == "GET":
            answer = await ask(client, method, url, logged_in("reader"))
            assert answer.status_code == 200
            shows = CANARY in answer.text or ids["conversation_id"] in answer.text
            assert shows or path == "/ui/agents", route


@pytest.mark.parametrize(("route", "method", "path", "need"), PAGES)
async def test_another_tenant_cannot_tell_a_page_from_one_that_is_not(
    route: str, method: str, path: str, need: str
) -> None:
    async with service(keys=keys()) as (running, client):
        ids = await stored(client)
        unknown = {name: "x" * len(value) for name, value in ids.items()}
        answers = []
        for given in (ids, unknown):
            url = filled(path, given)
            answer = await ask(client, method, url, logged_in("other"))
            text = re.sub("|".join(map(re.escape, given.values())), "ID", answer.text)
            answers.append((answer.status_code, text))
            assert CANARY not in answer.text, route
            told = [each for each in ids.values() if each in answer.text]
            assert all(each in url for each in told), route
        assert answers[0][0] == (404 if "{" in path else 200), (route, need)
        if "{" in path:
            assert answers[0] == answers[1], route
        task = await running.celeriac.get(ids["task_id"], tenant="acme")
        assert task.cancel_requested_at is None
        assert (await running.celeriac.list(tenant="umbrella")).tasks == ()


async def test_filters_of_the_list_do_not_reach_into_another_tenant() -> None:
    async with service(keys=keys()) as (_, client):
        ids = await stored(client)
        filters = (
            f"tag={CANARY}",
            f"conversation={ids['conversation_id']}",
            "agent=assistant",
            "status=completed",
            "part=true",
        )
        for query in filters:
            answer = await client.get(f"/?{query}", headers=logged_in("other"))
            assert answer.status_code == 200
            assert ids["task_id"] not in answer.text
            assert 'href="/ui/tasks/' not in answer.text
