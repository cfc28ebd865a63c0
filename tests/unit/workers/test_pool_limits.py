"""How tasks in the asyncio pool are ended: by limits, by a revoke, by force."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from tests.unit.workers.pool_celery import Told, pool_user
from workers.greenlet_bridge import Greenlets, await_
from workers.pool_job import Callbacks, Job, Limits, Surroundings
from workers.resumption import Resumption

FOREVER = 3600.0


def nap(seconds: float, value: Any = None) -> Any:
    return await_(asyncio.sleep(seconds, value))


def test_the_soft_limit_is_raised_in_the_task_which_may_still_answer() -> None:
    def body() -> str:
        try:
            nap(FOREVER)
        except SoftTimeLimitExceeded:
            return str(nap(0.01, "partial"))
        return "whole"

    with pool_user() as user:
        told = user.apply(body, soft_timeout=0.05)
        user.until(lambda: told.over)
        assert told.words == ["accepted", "soft limit", "succeeded"]
        assert told.value == "partial"


def test_an_answer_of_a_coroutine_that_handles_the_soft_limit_counts() -> None:
    async def handles() -> str:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    with pool_user() as user:
        told = user.apply(lambda: await_(handles()), soft_timeout=0.05)
        user.until(lambda: told.over)
        assert told.value == "partial"


def test_the_soft_limit_reaches_a_task_whose_awaits_end_at_once() -> None:
    async def nothing() -> None: ...

    async def fail() -> None:
        raise KeyError

    def body() -> str:
        ends_at = time.monotonic() + 5
        try:
            while time.monotonic() < ends_at:
                await_(nothing())
        except SoftTimeLimitExceeded:
            with pytest.raises(KeyError):  # once only, and nothing that comes later
                await_(fail())
            return "partial"
        return "whole"

    with pool_user() as user:
        told = user.apply(body, soft_timeout=0.05)
        user.until(lambda: told.over)
        assert told.value == "partial"


def test_the_hard_limit_cannot_be_survived_and_is_told_once() -> None:
    seen: list[str] = []

    async def clean_up() -> None:
        await asyncio.sleep(0.01)
        seen.append("cleaned up")

    def body() -> None:
        try:
            nap(FOREVER)
        except Exception:  # noqa: BLE001 - what a careless task does
            seen.append("survived")
        finally:
            await_(clean_up())

    with pool_user() as user:
        told = user.apply(body, timeout=0.05)
        user.until(lambda: told.over)
        user.until_idle()
        assert told.words == ["accepted", "hard limit"]
        assert seen == ["cleaned up"]


def test_an_ended_task_does_not_go_on_with_what_its_coroutine_returns() -> None:
    seen: list[str] = []

    async def swallow() -> str:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            return "never mind"
        return "whole"

    def body() -> None:
        seen.append(await_(swallow()))

    with pool_user() as user:
        told = user.apply(body, timeout=0.05)
        user.until(lambda: told.over)
        user.until_idle()
        assert seen == []


def test_limits_of_the_worker_hold_for_tasks_without_their_own() -> None:
    with pool_user(timeout=0.05) as user:
        told = user.apply(nap, FOREVER)
        user.until(lambda: told.over)
        assert told.words == ["accepted", "hard limit"]


def test_a_terminated_task_is_unwound_and_nothing_more_is_told() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            seen.append("coroutine cancelled")
            raise

    def body() -> None:
        try:
            await_(work())
        finally:
            seen.append("body unwound")

    with pool_user() as user:
        told = user.apply(body)
        user.until(lambda: told.pid)
        told.terminate()
        user.until_idle()
        assert seen == ["coroutine cancelled", "body unwound"]
        assert told.words == ["accepted"]


def test_a_task_terminated_before_celery_knows_that_it_runs_is_ended() -> None:
    with pool_user() as user:
        told = user.apply(nap, FOREVER)
        while not user.pool.info["running"]:
            threading.Event().wait(0.01)
        told.terminate()
        user.until_idle()
        user.until(lambda: told.pid)
        assert told.words == ["accepted"]


def test_a_task_terminated_before_it_has_a_slot_never_runs() -> None:
    seen: list[str] = []
    with pool_user(slots=1) as user:
        first = user.apply(nap, FOREVER)
        second = user.apply(seen.append, "ran")
        user.until(lambda: first.pid)
        second.terminate()
        first.terminate()
        user.until_idle()
        user.until(lambda: second.pid)
        assert seen == []
        assert second.words == ["accepted"]


def short_lived(
    call: Callable[[], object],
    told: Told,
    ended: list[Job],
    resumption: Resumption,
) -> Job:
    """Return a job with a hard limit of 10 ms, and 50 ms to clean up."""
    return Job(
        task_id="task",
        call=call,
        callbacks=Callbacks(
            accepted=told.accepted,
            succeeded=told.succeeded,
            failed=told.failed,
            timed_out=told.timed_out,
        ),
        limits=Limits(soft=None, hard=0.01),
        surroundings=Surroundings(
            loop=asyncio.get_running_loop(),
            greenlets=Greenlets(),
            resumption=resumption,
            report=lambda report: report(),
            note=lambda report: report(),
            on_end=ended.append,
            unwind_seconds=0.05,
        ),
    )


def test_a_task_that_ignores_its_end_loses_its_slot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    def body() -> None:
        try:
            await_(stubborn())
        finally:
            await_(asyncio.sleep(0))

    ended: list[Job] = []
    told = Told()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        job = short_lived(partial(body), told, ended, Resumption(loop))
        loop.call_soon(job.start)
        async with asyncio.timeout(5):
            while not ended:
                await asyncio.sleep(0.01)
        release.set()
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert told.words == ["accepted", "hard limit"]
    assert "left behind" in caplog.text


async def test_an_ended_task_has_its_time_to_clean_up_once_it_is_its_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Thousands that are ended at once go on one after the other."""

    class Queued(Resumption):
        def add(self, go_on: Callable[..., None], *arguments: Any) -> None:
            loop.call_later(0.2, super().add, go_on, *arguments)

    loop = asyncio.get_running_loop()
    told, ended = Told(), list[Job]()
    job = short_lived(partial(await_, asyncio.sleep(30)), told, ended, Queued(loop))
    job.start()
    async with asyncio.timeout(5):
        while not ended:
            await asyncio.sleep(0.01)
    assert "does not clean up" not in caplog.text
