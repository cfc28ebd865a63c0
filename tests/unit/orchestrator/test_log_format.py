"""What a worker's log line says beyond its constant text."""

from __future__ import annotations

import logging

from orchestrator.log_format import MAX_VALUE_CHARACTERS, FactsFormatter

FORMATTER = FactsFormatter(logging.Formatter("%(levelname)s: %(message)s"))


def line(message: str, *args: object, name: str = "workers.x", **extra: object) -> str:
    record = logging.getLogger(name).makeRecord(
        name, logging.INFO, __file__, 1, message, args, None, extra=extra
    )
    before = dict(vars(record))
    text = FORMATTER.format(record)
    assert record.msg == before["msg"]
    assert record.args == before["args"]
    return text


def test_facts_follow_the_message_as_key_and_value() -> None:
    assert line("attempt %d failed", 2, task_id="task-1", again=True, code=None) == (
        "INFO: attempt 2 failed task_id=task-1 again=True"
    )


def test_a_value_of_several_words_is_quoted_and_keeps_to_its_line() -> None:
    shown = line("failed", error='it said "no"\nand\r\u2028\x85then', empty="")
    assert shown == (
        'INFO: failed error="it said \\"no\\"\\nand\\r\\u2028\\u0085then" empty=""'
    )
    assert len(shown.splitlines()) == 1


def test_a_long_value_is_cut() -> None:
    shown = line("failed", error="x" * 5_000)
    assert shown == f'INFO: failed error="{"x" * MAX_VALUE_CHARACTERS}…"'


def test_secrets_are_not_shown() -> None:
    shown = line(
        "called",
        api_key="sk-1",
        Authorization="Bearer 2",
        url="redis://me:pass@host:6379/0",
    )
    assert shown == (
        'INFO: called api_key=*** Authorization=*** url="redis://***@host:6379/0"'
    )


def test_records_of_others_stay_as_they_are() -> None:
    assert line("received", name="celery.worker", data={"args": 1}) == "INFO: received"
    assert line("plain") == "INFO: plain"


def test_a_traceback_follows_the_facts() -> None:
    info = (ValueError, ValueError("broken"), None)
    record = logging.getLogger("workers.x").makeRecord(
        "workers.x", logging.ERROR, __file__, 1, "failed", (), info, extra={"n": 1}
    )
    first, *rest = FORMATTER.format(record).splitlines()
    assert first == "ERROR: failed n=1"
    assert rest[-1] == "ValueError: broken"
