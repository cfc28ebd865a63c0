"""Where a list or stream of events begins: what a client that comes back names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.orchestrator.http.serving import Served, serving

SEQUENCES = [0, 1]
"""What a task that nobody runs has."""


@pytest.fixture
async def at_home() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


async def events_path(served: Served) -> str:
    handle = await served.orchestrator.submit("researcher", {"prompt": "x"})
    return f"/tasks/{handle.id}/events"


@pytest.mark.parametrize(
    ("query", "header", "seen"),
    [
        ("", None, SEQUENCES),
        ("", "0", [1]),
        ("", " 1 ", []),
        ("?after=0", None, [1]),
        ("?after=0", "1", []),
        ("?after=-1", "1", []),
        ("?after=1", "0", []),
    ],
)
async def test_events_begin_behind_the_last_one_that_was_seen(
    at_home: Served, query: str, header: str | None, seen: list[int]
) -> None:
    path = await events_path(at_home)
    headers = {} if header is None else {"Last-Event-ID": header}
    answer = await at_home.client.get(path + query, headers=headers)
    assert [each["sequence"] for each in answer.json()["events"]] == seen


@pytest.mark.parametrize(
    "header",
    [b"", b"-1", b"x", b"1.5", b"\xb2", b"9" * 17, b"9" * 5000],
    ids=lambda header: str(header[:5]),
)
async def test_an_id_of_no_event_is_refused_by_name(
    at_home: Served, header: bytes
) -> None:
    path = await events_path(at_home)
    answer = await at_home.client.get(path, headers=[(b"Last-Event-ID", header)])
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid_last_event_id"
    assert answer.json()["field"] == "Last-Event-ID"
