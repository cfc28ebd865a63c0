"""Which pool a command line asks for."""

from __future__ import annotations

import pytest

from workers.app import app, asks_for_prefork


@pytest.mark.parametrize(
    "line",
    ["worker -P prefork", "worker --pool prefork -c 2", "--pool=prefork", "-Pprefork"],
)
def test_an_explicit_prefork_is_seen(line: str) -> None:
    assert asks_for_prefork(line.split(), {})


@pytest.mark.parametrize("line", ["worker", "worker -P threads", "worker -n prefork"])
def test_another_choice_or_none_is_left_to_celery(line: str) -> None:
    assert not asks_for_prefork(line.split(), {"CELERY_WORKER_POOL": "threads"})


def test_prefork_in_the_variable_of_the_option_is_seen() -> None:
    assert asks_for_prefork(["worker"], {"CELERY_WORKER_POOL": "prefork"})


def test_a_child_that_starts_slowly_on_a_busy_machine_is_not_killed() -> None:
    """Celery's 4 s made it kill and fork again and again at a load of 14."""
    assert app.conf.worker_proc_alive_timeout >= 30
