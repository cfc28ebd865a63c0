"""What becomes of a task whose client leaves before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping

import pytest

from orchestrator.http.app import CLIENT_CLOSED_REQUEST
from orchestrator.task import TaskStatus
from tests.unit.orchestrator.http.serving import Served, serving

CHAT = {"model": "researcher", "messages": [{"role": "user", "content": "x"}]}
RESPONSE = {"model": "researcher", "input": "x"}


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSE)]
)
@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, TaskStatus.CANCELLED), ({"Idempotency-Key": "k"}, TaskStatus.PENDING)],
)
async def test_a_task_that_nobody_can_come_back_for_is_cancelled(
    path: str, body: dict[str, object], headers: dict[str, str], status: TaskStatus
) -> None:
    async with asyncio.timeout(20), serving() as served:
        answered = await leave(served, path, body, headers)
        assert answered == CLIENT_CLOSED_REQUEST
        (task,) = (await served.orchestrator.list()).tasks
        assert task.status is status


async def test_no_wait_is_longer_than_the_operator_allows() -> None:
    async with asyncio.timeout(20), serving(http={"max_wait": "0.1s"}) as served:
        task = await served.orchestrator.submit("researcher", {"query": "x"})
        answer = await served.client.get(f"/tasks/{task.id}/wait?timeout=60")
        assert answer.json()["status"] == "pending"


async def leave(
    served: Served, path: str, body: dict[str, object], headers: dict[str, str]
) -> object:
    """Send a request, and close the connection once its task is there."""
    request = served.client.build_request("POST", path, json=body, headers=headers)
    asked = iter([{"type": "http.request", "body": request.content}])
    answered: list[object] = []

    async def receive() -> dict[str, object]:
        if (first := next(asked, None)) is not None:
            return first
        while not (await served.orchestrator.list()).tasks:
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    await served.app(scope, receive, send)
    return answered[0]
