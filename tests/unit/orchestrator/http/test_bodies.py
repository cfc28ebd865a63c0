"""What is no request at all is told with what would be one."""

from __future__ import annotations

import pytest

from tests.unit.orchestrator.http.serving import serving

JSON = {"content-type": "application/json"}
TASK = b'{"agent":"assistant"}'


@pytest.mark.parametrize("path", ["/tasks", "/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"", {}, "the body is missing; send a JSON object"),
        (b"[]", JSON, "must be a JSON object (got list)"),
        (b"5", JSON, "must be a JSON object (got int)"),
        (TASK, {}, "Content-Type: application/json"),
        (TASK, {"content-type": "text/plain"}, "Content-Type: application/json"),
    ],
)
async def test_a_body_that_is_no_object(
    path: str, body: bytes, headers: dict[str, str], words: str
) -> None:
    async with serving() as served:
        answer = await served.client.post(path, content=body, headers=headers)
    assert answer.status_code == (400 if "v1" in path else 422)
    assert words in answer.text


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("tenant", "the API key says whose task it is"),
        ("idempotency_key", "send the header Idempotency-Key"),
    ],
)
async def test_a_field_that_is_told_otherwise(field: str, words: str) -> None:
    async with serving() as served:
        sent = {"agent": "assistant", field: "x"}
        answer = await served.client.post("/tasks", json=sent)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
