"""Threads of tools where the system gives no more."""

from __future__ import annotations

import threading

import pytest

from workers.tools.threads import DaemonThreads

SECONDS = 10


@pytest.fixture
def no_more(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return monkeypatch


def test_a_call_that_could_not_begin_is_not_made_later(
    no_more: pytest.MonkeyPatch,
) -> None:
    threads = DaemonThreads(2, name="t")
    made: list[str] = []
    with pytest.raises(RuntimeError, match="new thread"):
        threads.submit(lambda: made.append("refused"))
    no_more.undo()
    threads.submit(lambda: made.append("taken")).result(SECONDS)
    assert made == ["taken"]


def test_a_call_waits_for_the_threads_there_are() -> None:
    threads, go_on = DaemonThreads(2, name="t"), threading.Event()
    first = threads.submit(go_on.wait)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        second = threads.submit(threading.current_thread)
    go_on.set()
    assert first.result(SECONDS)
    assert second.result(SECONDS).name == "t"
