"""What a run has done is kept until the store takes it."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import LeaseLost, StoreFull
from workers import insistence
from workers.insistence import Insistence


class Refusing:
    """A call that is refused some times."""

    def __init__(self, *, refusals: int) -> None:
        self.calls = 0
        self._refusals = refusals

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._refusals:
            raise StoreFull("Redis is out of memory; free some")
        return "stored"


async def test_a_refused_call_is_made_again_until_it_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = Refusing(refusals=2)
    assert await Insistence(patience_seconds=30)(call) == "stored"
    assert call.calls == 3
    assert caplog.text.count("store refuses") == 1


async def test_many_that_wait_are_told_of_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    insist = Insistence(patience_seconds=30)
    calls = [insist(Refusing(refusals=2)) for _ in range(100)]
    assert await asyncio.gather(*calls) == ["stored"] * 100
    assert caplog.text.count("store refuses") == 1


async def test_patience_ends() -> None:
    call = Refusing(refusals=100)
    with pytest.raises(StoreFull):
        await Insistence(patience_seconds=0.5)(call)
    assert call.calls == 2


async def test_after_giving_up_the_next_refusal_is_the_last() -> None:
    insist = Insistence(patience_seconds=30)
    waiting = asyncio.create_task(insist(Refusing(refusals=100)))
    await asyncio.sleep(0)
    insist.give_up()
    with pytest.raises(StoreFull):
        await asyncio.wait_for(waiting, 5)


async def test_other_errors_are_not_waited_for() -> None:
    async def lost() -> None:
        raise LeaseLost("task", fence=1)

    with pytest.raises(LeaseLost):
        await Insistence(patience_seconds=30)(lost)


async def test_what_is_seen_to_is_waited_for_a_little_and_goes_on() -> None:
    go_on, taken = asyncio.Event(), list[str]()

    async def slow() -> None:
        await go_on.wait()
        taken.append("taken")

    insist = Insistence(patience_seconds=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insistence, "SEEN_TO_SECONDS", 0.01)
        await asyncio.wait_for(insist.see_to(slow), 10)
    assert not taken
    caller = asyncio.create_task(insist.see_to(slow))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await insist.settle()
    assert taken == ["taken"] * 2
