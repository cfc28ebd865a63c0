"""What is left to the kernel while it comes fast, and what is not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers.llm import gathering
from workers.llm.gathering import Gathering


class Transport:
    """Counts how often it is told to rest."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


@pytest.mark.parametrize(
    ("size", "seconds", "told"),
    [(100, 0.0, ["pause", "resume"]), (64 * 1024, 0.0, []), (100, 0.2, [])],
    ids=["little and fast", "much", "slow"],
)
async def test_only_what_brings_little_and_fast_is_left_to_gather(
    monkeypatch: pytest.MonkeyPatch, size: int, seconds: float, told: list[str]
) -> None:
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.2)
    monkeypatch.setattr(gathering, "_SHARE", 1e9)
    transport = Transport()
    connection = SimpleNamespace(transport=transport)
    sent = cast("Any", SimpleNamespace(connection=connection))

    async def read() -> bytes:
        if seconds:
            await asyncio.sleep(seconds)
        return b"x" * size

    pieces = Gathering(sent, read)
    for _ in range(2):
        assert len(await pieces.next()) == size
    assert transport.told == told
