"""A small Celery application on our pool and transport, for workers of the tests.

Its tasks leave notes in Redis. Everything that differs between tests comes as JSON in
one environment variable.
"""

from __future__ import annotations

import asyncio
import json
import os
from threading import Event
from typing import Any

import redis
from celery import Celery, current_task, signals
from celery.exceptions import SoftTimeLimitExceeded

from workers.broker_link import BrokerLink, lean_broker
from workers.greenlet_bridge import await_

ASYNC_POOL = "workers.pool:AsyncPool"
PREFORK_POOL = "workers.prefork:PreforkPool"
SETTINGS_VARIABLE = "CELERIAC_TEST_CELERY"
NOTES = "notes"
COUNTS = "signals"
GO_ON = "go-on"
LONG = 3600.0

_options: dict[str, Any] = json.loads(os.environ.get(SETTINGS_VARIABLE, "{}"))

app = Celery("small", set_as_current=False, amqp=BrokerLink)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    broker_channel_error_retry=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_prefetch_count_reduction=False,
    **_options.get("conf", {}),
)
if _options.get("lean"):
    app.conf.update(lean_broker(app.conf.broker_url))

_store: redis.Redis | None = None


def store() -> redis.Redis:
    global _store  # noqa: PLW0603 - one client per process, made after the fork
    if _store is None:
        _store = redis.Redis.from_url(_options["store"])
    return _store


def go_on(db: redis.Redis) -> None:
    """Let a blocking task end."""
    db.rpush(GO_ON, "go on")


def note(text: str) -> None:
    store().rpush(NOTES, text)


def pause(seconds: float) -> None:
    if app.conf.worker_pool == ASYNC_POOL:
        await_(asyncio.sleep(seconds))
    else:
        Event().wait(seconds)


@app.task
def nap(seconds: float, text: str = "napped") -> str:
    pause(seconds)
    note(text)
    return text


@app.task
def say(text: str) -> None:
    note(text)


@app.task
def fail() -> None:
    raise ValueError("broken")


@app.task
def tidy(seconds: float) -> None:
    try:
        pause(seconds)
    finally:
        pause(0.01)
        note("tidied")


@app.task(soft_time_limit=0.5, time_limit=30)
def patient() -> str:
    try:
        pause(LONG)
    except SoftTimeLimitExceeded:
        note(f"soft limit of {current_task.name}")
    return "partial"


@app.task(time_limit=0.5)
def endless() -> None:
    try:
        pause(LONG)
    finally:
        note("unwound")


@app.task(rate_limit="4/s")
def rare(text: str) -> None:
    note(text)


@app.task
def block() -> None:
    note("blocking")
    while not store().blpop([GO_ON], 1):
        pass


@app.task
def die_slowly() -> None:
    """Close all files, as a process that ends does first, and end a little later."""
    note("dying")
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    Event().wait(0.3)
    os._exit(1)


@app.task
def seen_request() -> None:
    request = current_task.request
    note(f"{request.retries} {request.eta} {request.expires} {request.callbacks}")


def _count(signal: Any) -> None:
    def counted(**_: Any) -> None:
        store().hincrby(COUNTS, signal.name, 1)

    signal.connect(counted, weak=False)


if _options.get("count_signals"):
    for counted_signal in (
        signals.task_received,
        signals.task_prerun,
        signals.task_postrun,
        signals.task_success,
        signals.task_failure,
        signals.task_revoked,
        signals.worker_process_init,
        signals.worker_process_shutdown,
    ):
        _count(counted_signal)
