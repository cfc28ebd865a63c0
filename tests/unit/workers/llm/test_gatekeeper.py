"""What a process does for the permits that its calls hold."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.dues import Admitted
from orchestrator.errors import StoreUnavailable
from orchestrator.gate import (
    LONGEST_WAIT_SECONDS,
    CallOutcome,
    Departure,
    GateLimits,
    Permit,
)
from orchestrator.memory_gate import InMemoryGate
from workers.llm import gatekeeper
from workers.llm.endpoints import ServedEndpoint
from workers.llm.gatekeeper import WATCHED_SECONDS, Gatekeeper
from workers.llm.scripted import ScriptedLLMProvider

PERMIT = Permit("g", "1", 0, 0)
LEFT = Departure(outcome=CallOutcome.ANSWERED)
ENDPOINT = ServedEndpoint(
    name="one",
    base_url="http://one/v1",
    model="m",
    provider=ScriptedLLMProvider(),
    limits=GateLimits(in_flight=1),
)


class FailingGate(InMemoryGate):
    """Fails to renew once."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._errors = [error]
        self.renewed = asyncio.Event()

    async def renew(self, permits: tuple[Permit, ...]) -> None:
        assert permits == (PERMIT,)
        if self._errors:
            raise self._errors.pop()
        self.renewed.set()


async def admitted() -> Admitted:
    return Admitted(PERMIT)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "")]
)
async def test_permits_are_renewed_on_whatever_a_renewal_failed_of(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    gate = FailingGate(error)
    keeper = Gatekeeper(gate, renew_seconds=0.005)
    await keeper.enter(ENDPOINT, admitted, token="1", may_park=False)  # noqa: S106
    async with asyncio.timeout(10):
        await gate.renewed.wait()
    await keeper.leave("g", PERMIT, LEFT)
    await keeper.aclose()
    assert "permits not renewed" in caplog.text


async def test_a_gate_without_limits_is_asked_no_longer_than_it_can_be_closed(
    monkeypatch: pytest.MonkeyPatch,
):
    """An instant in milliseconds where seconds stand is a wait beyond all calendars."""
    keeper = Gatekeeper(InMemoryGate())
    endpoint = replace(ENDPOINT, limits=GateLimits())
    now = 1000.0
    monkeypatch.setattr(gatekeeper, "monotonic", lambda: now)
    refused = Departure(outcome=CallOutcome.REFUSED, wait_seconds=1.7e12)
    await keeper.leave("g", None, refused)
    assert not keeper.is_open(endpoint, "g")
    now += LONGEST_WAIT_SECONDS + WATCHED_SECONDS
    assert keeper.is_open(endpoint, "g")
    await keeper.aclose()
