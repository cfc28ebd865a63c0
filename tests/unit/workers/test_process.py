"""What a worker process does beside its runs: it cancels, and checks what it needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import InvalidSettings, QueueUnavailable
from orchestrator.memory_store import InMemoryTaskStore
from tests.conformance.task_steps import submit
from workers import process
from workers.process import check_heartbeat_file


class Queue:
    """Hears of doorbells; without a broker it refuses them."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there

    async def enqueue(self, doorbells: object) -> None:
        if not self.is_there:
            raise QueueUnavailable("the broker is away")


@pytest.mark.parametrize(
    ("task_id", "is_there", "said"),
    [
        ("unknown", True, "revoked but not cancelled"),
        ("known", False, "doorbell not rung; the sweeper will"),
        ("known", True, ""),
    ],
)
async def test_a_revoke_that_cannot_cancel_is_told_in_the_log(
    task_id: str, is_there: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = InMemoryTaskStore()
    made = await submit(store)
    ids = {"unknown": "task-none", "known": made.task.id}
    parts: Any = SimpleNamespace(store=store, queue=Queue(is_there=is_there))
    await process._cancel(parts, "default", ids[task_id])
    assert caplog.messages == ([said] if said else [])
    cancelled = (await store.get("default", made.task.id)).status.value
    assert cancelled == ("cancelled" if task_id == "known" else "pending")


def test_a_heartbeat_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "missing" / "beat"):
        with pytest.raises(InvalidSettings, match="cannot be written; name a file"):
            check_heartbeat_file(wrong)
    good = tmp_path / "beat"
    check_heartbeat_file(good)
    check_heartbeat_file(None)
    assert not good.exists()
