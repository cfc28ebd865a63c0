"""The asyncio pool on a real hub and a real loop, without broker and worker."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Celery, signals
from celery.app.trace import build_tracer, fast_trace_task
from celery.exceptions import Ignore, Retry
from celery.utils import threads
from celery.worker import state
from greenlet import GreenletExit
from kombu.asynchronous import Hub

import workers.pool
import workers.pool_job
import workers.resumption
from tests.unit.workers.pool_celery import pool_user
from workers.errors import UnsupportedPool
from workers.greenlet_bridge import MOST_IDLE, LoopGreenlet, await_
from workers.hub_waker import HubWaker
from workers.pool import AsyncPool
from workers.pool_job import Job

FOREVER = 3600.0


def nap(seconds: float, value: Any = None) -> Any:
    return await_(asyncio.sleep(seconds, value))


def until(leave: threading.Event) -> str:
    while not leave.is_set():
        nap(0.01)
    return "done"


def test_a_task_awaits_and_celery_is_told_of_acceptance_first() -> None:
    with pool_user() as user:
        told = user.apply(nap, 0.01, "awake")
        user.until(lambda: told.over)
        assert told.words == ["accepted", "succeeded"]
        assert told.value == "awake"
        assert told.pid == os.getpid()


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[HubWaker]:
    """Grows by one each time that the pool wakes Celery's thread."""
    woken: list[HubWaker] = []
    wake = HubWaker.wake

    def counted(waker: HubWaker) -> None:
        woken.append(waker)
        wake(waker)

    monkeypatch.setattr(HubWaker, "wake", counted)
    monkeypatch.setattr(workers.pool, "NOTED_SECONDS", FOREVER)
    return woken


def test_the_start_of_a_short_task_is_told_along_with_its_end(
    wakes: list[HubWaker],
) -> None:
    """To wake Celery's thread costs more than what it is told."""
    with pool_user() as user:
        for _ in range(30):
            told = user.apply(nap, 0.005)
            user.until(lambda told=told: told.over)
            assert told.words == ["accepted", "succeeded"]
    assert 0 < len(wakes) <= 31, "one for each end, and one when the hub is given"


def test_what_ends_in_one_round_of_the_loop_is_told_at_once(
    wakes: list[HubWaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's thread would take the interpreter from the loop in their midst."""
    monkeypatch.setattr(workers.resumption, "ROUND_SECONDS", FOREVER)

    async def opened() -> None:
        await gate

    def body() -> None:
        await_(opened())
        threading.Event().wait(0.005)  # Celery's thread has the interpreter

    with pool_user(slots=20) as user:
        assert user.pool.loop is not None
        loop = user.pool.loop.loop
        gate = loop.create_future()
        tolds = [user.apply(body) for _ in range(20)]
        user.until(lambda: user.pool.info["running"] == 20)
        before = len(wakes)
        loop.call_soon_threadsafe(gate.set_result, None)
        user.until(lambda: all(told.over for told in tolds))
        assert len(wakes) - before <= 2


def test_many_that_end_at_once_do_not_keep_the_loop_from_others() -> None:
    """Whose end is yet to be stored: Celery takes a millisecond for each error."""
    ended: list[int] = []
    seen: list[int] = []

    async def opened() -> None:
        await gate

    def body(number: int) -> None:
        await_(opened())
        threading.Event().wait(0.005)
        ended.append(number)

    async def look() -> None:
        gate.set_result(None)
        while len(ended) < 20:
            seen.append(len(ended))
            await asyncio.sleep(0)

    with pool_user(slots=20) as user:
        assert user.pool.loop is not None
        loop = user.pool.loop.loop
        gate = loop.create_future()
        tolds = [user.apply(body, number) for number in range(20)]
        user.until(lambda: user.pool.info["running"] == 20)
        asyncio.run_coroutine_threadsafe(look(), loop).result(30)
        user.until(lambda: all(told.over for told in tolds))
        assert ended == list(range(20))
        assert len(set(seen)) >= 10


def test_a_failing_task_is_reported_with_its_error() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pool_user() as user:
        told = user.apply(lambda: await_(fail()))
        user.until(lambda: told.over)
        assert told.words == ["accepted", "failed"]
        assert isinstance(told.value, ValueError)


@dataclass(frozen=True)
class Frozen(Ignore):
    reason: str


@pytest.mark.parametrize("came_of_another", [False, True])
@pytest.mark.parametrize(
    "error",
    [Ignore("refused"), Retry("again"), ValueError("no"), Frozen("sets no attribute")],
    ids=["ignored", "retried", "failed", "frozen"],
)
def test_what_celery_keeps_of_an_error_is_freed_without_a_collection(
    error: Exception, *, came_of_another: bool
) -> None:
    """It is a hundred kilobytes for each task that was refused, cancelled or failed."""
    app = Celery("test", set_as_current=False)

    @app.task(name="raising", ignore_result=True, shared=False)
    def raising() -> None:
        if not came_of_another:
            raise error.with_traceback(None)
        try:
            int("no number")
        except ValueError as exc:
            raise error.with_traceback(None) from exc

    raising.__trace__ = build_tracer("raising", raising, app.loader, app=app)
    surroundings = ({"raising": raising}, set(), "host")
    request = {"id": "1", "task": "raising", "args": (), "kwargs": {}}
    gc.collect()
    gc.disable()
    try:
        with pool_user() as user:
            call = partial(fast_trace_task, _loc=surroundings)
            told = user.apply(call, "raising", "1", request, ((), {}, {}), None, None)
            user.until(lambda: told.over)
            assert told.words == ["accepted", "succeeded"]
            assert type(told.value[1].exception) in (
                type(error),
                ExceptionWithTraceback,
            )
            told.value = None
        kept = [each for each in gc.get_objects() if type(each) is ExceptionInfo]
    finally:
        gc.enable()
    assert kept == []


def test_no_more_tasks_run_than_there_are_slots() -> None:
    running = Counter[str]()

    def body() -> None:
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        nap(0.02)
        running["now"] -= 1

    with pool_user(slots=3) as user:
        tolds = [user.apply(body) for _ in range(12)]
        user.until(lambda: all(told.over for told in tolds))
        assert running["most"] == 3
        assert user.pool.num_processes == 3


def test_info_counts_what_runs_and_what_waits() -> None:
    with pool_user(slots=2, soft_timeout=5.0, timeout=9.0) as user:
        for _ in range(5):
            user.apply(nap, FOREVER)
        user.until(lambda: user.pool.info["running"] == 2)
        info = user.pool.info
        assert info["max-concurrency"] == 2
        assert info["waiting"] == 3
        assert info["processes"] == [os.getpid()]
        assert info["timeouts"] == [5.0, 9.0]


def test_grow_gives_waiting_tasks_slots_and_shrink_takes_them() -> None:
    with pool_user(slots=1) as user:
        tolds = [user.apply(nap, FOREVER) for _ in range(3)]
        user.until(lambda: user.pool.info["running"] == 1)
        user.pool.grow(2)
        user.until(lambda: user.pool.info["running"] == 3)
        user.pool.shrink(2)
        assert user.pool.num_processes == 1
        assert user.pool.info["running"] == 3
        for told in tolds[1:]:
            user.until(lambda told=told: told.pid)
            told.terminate()
        late = user.apply(nap, 0)
        user.until(lambda: user.pool.info["running"] == 1)
        assert not late.over


def test_more_slots_than_there_are_cannot_be_taken() -> None:
    with pool_user(slots=2) as user, pytest.raises(ValueError, match="2 slots"):
        user.pool.shrink(3)


def test_an_error_in_a_callback_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no")

    with pool_user() as user:
        user.apply(nap, 0, accept_callback=refuse, callback=refuse)
        told = user.apply(nap, 0)
        user.until(lambda: told.over)
        assert "could not be told" in caplog.text


@pytest.mark.parametrize("stop", [SystemExit(1), KeyboardInterrupt(), GreenletExit()])
def test_a_task_that_wants_to_end_the_process_only_fails(stop: BaseException) -> None:
    async def leave() -> None:
        raise stop

    def exit_at_once() -> None:
        raise stop

    with pool_user() as user:
        tolds = [user.apply(lambda: await_(leave())), user.apply(exit_at_once)]
        user.until(lambda: all(told.over for told in tolds))
        assert [told.words[-1] for told in tolds] == ["failed", "failed"]
        after = user.apply(nap, 0.01)
        user.until(lambda: after.over)
        assert after.words == ["accepted", "succeeded"]


def test_the_loop_turns_while_celerys_thread_is_busy_and_the_other_way_round() -> None:
    entered, leave = threading.Event(), threading.Event()

    def block() -> bool:
        entered.set()
        return leave.wait(10)

    with pool_user() as user:
        told = user.apply(block)
        user.until(entered.is_set)
        beats: list[int] = []
        user.hub.call_repeatedly(0.01, beats.append, 1)
        user.until(lambda: len(beats) > 2)
        leave.set()
        user.until(lambda: told.over)
        assert told.value is True


def test_context_variables_reach_the_coroutine_and_come_back() -> None:
    seen = contextvars.ContextVar("seen", default="nobody")

    async def answer() -> str:
        heard = seen.get()
        seen.set(f"coroutine of {heard}")
        await asyncio.sleep(0.01)
        return heard

    def body(name: str) -> tuple[str, str]:
        seen.set(name)
        return await_(answer()), seen.get()

    with pool_user() as user:
        tolds = [user.apply(body, name) for name in ("a", "b")]
        user.until(lambda: all(told.over for told in tolds))
        assert [told.value for told in tolds] == [
            ("a", "coroutine of a"),
            ("b", "coroutine of b"),
        ]


def test_what_tracing_binds_to_a_task_reaches_its_children_and_ends_with_it() -> None:
    """It resets what it has set, which only the same context allows."""
    span = contextvars.ContextVar("span", default="none")

    async def child() -> str:
        await asyncio.sleep(0.01)
        return span.get()

    async def children() -> list[str]:
        return await asyncio.gather(child(), child())

    def body(name: str) -> list[str]:
        before = span.get()
        token = span.set(name)
        try:
            return [before, *await_(children())]
        finally:
            span.reset(token)

    with pool_user() as user:
        for names in ("ab", "cd"):  # the second two take the greenlets of the first
            tolds = [user.apply(body, name) for name in names]
            user.until(lambda tolds=tolds: all(told.over for told in tolds))
            assert [told.value for told in tolds] == [
                ["none", name, name] for name in names
            ]


def test_stop_waits_for_what_runs_and_leaves_what_waits_unaccepted() -> None:
    with pool_user(slots=1) as user:
        leave = threading.Event()
        first, second = user.apply(until, leave), user.apply(nap, 0)
        user.until(lambda: first.pid)
        user.pool.close()
        threading.Timer(0.1, leave.set).start()
        user.pool.stop()
        assert first.value == "done"
        assert second.words == []
        assert user.apply(nap, 0).job is None


def test_a_pool_that_closes_begins_nothing_more() -> None:
    with pool_user(slots=1) as user:
        leave = threading.Event()
        first, second = user.apply(until, leave), user.apply(nap, 0)
        user.until(lambda: first.pid)
        user.pool.close()
        user.pool.grow(1)
        leave.set()
        user.until(lambda: first.over)
        user.pool.stop()
        assert second.words == []


@pytest.mark.parametrize("told", [True, 0, 1])
def test_a_cold_shutdown_ends_a_task_of_whose_start_celery_has_not_heard(
    monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    entered = threading.Event()

    def body() -> None:
        entered.set()
        nap(FOREVER)

    with pool_user() as user:
        task = user.apply(body)
        assert entered.wait(10)
        monkeypatch.setattr(state, "should_terminate", told)
        user.pool.stop()
        assert task.words == ["accepted"]


@pytest.mark.timeout(20)
def test_a_cold_shutdown_may_interrupt_celery_as_it_is_told() -> None:
    """Its signal handler tells Celery everything itself, on the same thread."""

    class Interrupted(SimpleQueue[Any]):
        def empty(self) -> bool:
            is_empty = super().empty()
            stop_once()
            return is_empty

        def get_nowait(self) -> Any:
            stop_once()
            return super().get_nowait()

    with pool_user() as user:
        reports = user.pool._reports = Interrupted()
        stops: list[Callable[[], None]] = []

        def stop_once() -> None:
            if stops:
                stops.pop()()

        told, _ = user.apply(nap, 0), user.apply(nap, 0.5)
        while reports.qsize() < 3:  # both have begun, one has ended
            threading.Event().wait(0.01)
        stops.append(user.pool.stop)
        user.until(lambda: user.pool.loop is None)
        assert told.words == ["accepted", "succeeded"]


@pytest.mark.timeout(20)
def test_a_stop_ends_when_a_signals_own_has_taken_longer_than_it_looks_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C twice, with a soft shutdown between."""
    monkeypatch.setattr(workers.pool, "DRAIN_WAKE_SECONDS", 0.1)
    with pool_user() as user:
        told = user.apply(nap, FOREVER)
        user.until(lambda: told.pid)

        def stop(*_: object) -> None:
            threading.Event().wait(0.3)
            monkeypatch.setattr(state, "should_terminate", True)
            user.pool.stop()

        earlier = signal.signal(signal.SIGUSR1, stop)
        try:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            user.pool.stop()
        finally:
            signal.signal(signal.SIGUSR1, earlier)
        assert user.pool.loop is None


def test_a_signal_may_stop_a_pool_that_closes() -> None:
    with pool_user() as user:

        def stop_once(**_: Any) -> None:
            signals.worker_process_shutdown.disconnect(stop_once)
            user.pool.stop()

        signals.worker_process_shutdown.connect(stop_once)
        user.pool.stop()
        assert user.pool.loop is None


def test_terminate_ends_what_runs() -> None:
    with pool_user() as user:
        told = user.apply(nap, FOREVER)
        user.until(lambda: told.pid)
        user.pool.terminate()
        assert told.words == ["accepted"]
        assert user.pool.loop is None


@pytest.mark.parametrize("way", ["stop", "terminate"])
def test_the_end_of_each_of_many_does_not_have_a_stop_look_at_them_all(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    ended: Counter[int] = Counter()
    terminate = Job.terminate

    def counted(job: Job, *args: object) -> None:
        ended[id(job)] += 1
        terminate(job, *args)

    class Looked(set[Job]):
        looks = 0

        def __iter__(self) -> Any:
            self.looks += 1
            return super().__iter__()

    monkeypatch.setattr(Job, "terminate", counted)
    with pool_user(slots=100) as user:
        running = user.pool._running = Looked()
        tolds = [
            user.apply(nap, FOREVER if way == "terminate" else 0.2 + number / 1000)
            for number in range(100)
        ]
        user.until(lambda: all(told.pid for told in tolds))
        getattr(user.pool, way)()
        assert user.pool.loop is None
        assert running.looks <= 10
        assert set(ended.values()) <= {1}


def test_of_a_task_that_was_ended_no_copy_of_its_frames_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody hears of it; of thousands that a cold shutdown ends it takes seconds."""
    made: list[object] = []
    monkeypatch.setattr(workers.pool_job, "ExceptionInfo", lambda: made.append(None))
    with pool_user(slots=2) as user:
        tolds = [user.apply(nap, FOREVER) for _ in range(2)]
        user.until(lambda: all(told.pid for told in tolds))
        user.pool.terminate()
        assert user.pool.loop is None
    assert made == []


def test_a_stop_leaves_an_ended_task_that_blocks_the_loop_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(30)

    with pool_user() as user:
        told = user.apply(block)
        user.until(lambda: told.pid and entered.is_set())
        loop = user.pool.loop
        assert loop is not None
        told.terminate()
        user.pool.stop()
        assert "left behind" in caplog.text
        leave.set()
        loop.close()


def test_flush_forgets_tasks_without_a_slot() -> None:
    with pool_user(slots=1) as user:
        first, second = user.apply(nap, 0.05), user.apply(nap, 0)
        user.until(lambda: first.pid)
        user.pool.flush()
        user.until_idle()
        user.until(lambda: first.over)
        assert second.words == []


def test_a_restart_disturbs_nothing() -> None:
    with pool_user() as user:
        told = user.apply(nap, 0.05, "done")
        user.pool.restart()
        user.until(lambda: told.over)
        assert told.value == "done"


def test_the_process_may_use_the_loop_from_start_until_after_the_drain() -> None:
    answers: list[str] = []
    pools: list[AsyncPool] = []

    def on_init(sender: str, **_: Any) -> None:
        answers.append(f"init {sender}")

    def on_shutdown(sender: str, **_: Any) -> None:
        loop = pools[0].loop
        assert loop is not None
        answers.append(f"shutdown {loop.await_(asyncio.sleep(0, sender))}")

    signals.worker_process_init.connect(on_init)
    signals.worker_process_shutdown.connect(on_shutdown)
    try:
        with pool_user() as user:
            pools.append(user.pool)
            assert answers == ["init worker@test"]
            loop = user.pool.loop
            assert loop is not None
            told = user.apply(lambda: loop.await_(asyncio.sleep(0, "by the loop")))
            user.until(lambda: told.over)
            assert told.value == "by the loop"
    finally:
        signals.worker_process_init.disconnect(on_init)
        signals.worker_process_shutdown.disconnect(on_shutdown)
    assert answers == ["init worker@test", "shutdown worker@test"]


def test_a_worker_without_celerys_event_loop_is_refused() -> None:
    with pytest.raises(UnsupportedPool, match="use Redis"):
        AsyncPool(1, threads=True)


def test_a_celery_that_cannot_tell_greenlets_apart_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each task would take another's request for its own."""
    monkeypatch.setattr(threads, "USE_FAST_LOCALS", "1")
    with pytest.raises(UnsupportedPool, match="unset USE_FAST_LOCALS"):
        AsyncPool(1)


@pytest.mark.parametrize("option", ["maxtasksperchild", "max_memory_per_child"])
def test_a_limit_for_children_is_said_to_do_nothing(
    option: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pool_user(**{option: 100}):
        assert "--max-memory-per-child do nothing" in caplog.text


def test_a_pool_without_limits_for_children_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pool_user(maxtasksperchild=None, max_memory_per_child=None):
        assert not caplog.records


def test_whoever_gives_the_pool_a_call_need_not_wait_for_all_it_may_hear() -> None:
    """As in Celery's own pools; extensions that gather tasks into one call do so."""
    with pool_user() as user:
        ended: list[Any] = []
        user.pool.apply_async(nap, (0.01, "done"), callback=ended.append)
        user.pool.apply_async(nap, (0.01,), soft_timeout=0.001)
        user.pool.apply_async(nap, (0.01,), accept_callback=None, callback=None)
        user.until(lambda: ended)
        user.until_idle()
        assert ended == ["done"]


def test_await_outside_a_task_is_refused() -> None:
    with pytest.raises(RuntimeError, match="body of a task"):
        await_(asyncio.sleep(0))


def test_what_celery_hands_over_when_it_is_told_waits_for_nothing_else() -> None:
    """It acknowledges so, and takes no more tasks before."""
    polls: list[float] = []
    acknowledged: list[list[float]] = []
    with pool_user() as user:
        poll = user.hub.poller.poll

        def noted(timeout: float) -> Any:
            polls.append(timeout)
            return poll(timeout)

        def told(_: object) -> None:
            polls.clear()
            user.hub.call_soon(lambda: acknowledged.append(polls.copy()))

        user.hub.poller.poll = noted
        user.apply(nap, 0, callback=told)
        user.until(lambda: acknowledged)
        assert acknowledged == [[]], "the hub waited in between"


def test_a_signal_may_close_what_wakes_celery_just_as_it_does() -> None:
    hub, waker = Hub(), HubWaker(int)
    waker.listen(hub)
    on_readable, _ = hub.readers[waker._heard.fileno()]
    waker.close()
    on_readable()
    hub.close()


def test_a_reconnect_repeats_a_lost_wake_up() -> None:
    with pool_user() as user:
        told = user.apply(nap, 0)
        while not user.pool._celery_woken:
            threading.Event().wait(0.01)
        user.hub.reset()
        user.pool.register_with_event_loop(user.hub)
        user.until(lambda: told.over)
        assert told.words == ["accepted", "succeeded"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [2_000, 10_000])
def test_thousands_of_mixed_ends_leak_nothing(count: int) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise ValueError("broken")

    kinds: list[Any] = [
        lambda user: user.apply(lambda: None),
        lambda user: user.apply(nap, 0.01),
        lambda user: user.apply(lambda: await_(fail())),
        lambda user: user.apply(nap, FOREVER, soft_timeout=0.02),
        lambda user: user.apply(nap, FOREVER, timeout=0.02),
        lambda user: user.apply(nap, FOREVER),
    ]
    with pool_user(slots=200) as user:
        loop = user.pool.loop
        assert loop is not None
        warm = user.apply(nap, 0)
        user.until(lambda: warm.over)
        # Counting what is kept collects garbage of other tests, open files included.
        kept_before = _kept()
        descriptors = _descriptors()
        for start in range(0, count, 200):
            tolds = [
                kinds[number % len(kinds)](user) for number in range(start, start + 200)
            ]
            user.until(lambda tolds=tolds: all(told.pid for told in tolds))
            for told in tolds:
                if told.job is not None and not told.over:
                    told.terminate()
            user.until_idle()
        # Reports come in order: after this one none is under way with its job.
        warm = user.apply(nap, 0)
        user.until(lambda: warm.over)
        user.until_idle()
        tolds.clear()
        assert loop.await_(_tasks_left()) == 0
        assert _kept() - kept_before <= 2 + MOST_IDLE, "the last told and its job"
        assert _descriptors() == descriptors


async def _tasks_left() -> int:
    return len(asyncio.all_tasks() - {asyncio.current_task()})


def _kept() -> int:
    gc.collect()
    return sum(isinstance(kept, LoopGreenlet | Job) for kept in gc.get_objects())


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
