"""What may stand in the header `Idempotency-Key`."""

from __future__ import annotations

import pytest

from tests.unit.orchestrator.http.serving import serving

TASK = {"agent": "researcher", "input": {"prompt": "x"}}


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"k", 202),
        (b"k" * 255, 202),
        ("ä".encode("latin-1"), 202),
        (b"", 400),
        (b"  ", 400),
        (b"k" * 256, 400),
        (b"k" * 10_000, 400),
        (b"a\xa0b", 400),
        (b"a\tb", 400),
        (b"a\x85b", 400),
    ],
    ids=lambda given: str(given[:6]) if isinstance(given, bytes) else "",
)
async def test_a_key_is_some_printable_characters(key: bytes, status: int) -> None:
    async with serving() as served:
        headers = [(b"Idempotency-Key", key)]
        answer = await served.client.post("/tasks", json=TASK, headers=headers)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert answer.json()["code"] == "invalid_idempotency_key"
            assert answer.json()["field"] == "Idempotency-Key"
