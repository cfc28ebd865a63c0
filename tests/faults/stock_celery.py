"""The control: stock Celery as its documentation would have it made safe.

Late acks, reject on worker lost, prefetch 1, and a visibility timeout and sweep that
are tuned far below the defaults. Each run of the task leaves a line when it begins and
one when it ends.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Event

from celery import Celery

app = Celery("stock", broker=os.environ.get("STOCK_BROKER", "memory://"))
app.conf.update(
    task_default_queue="celery",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 4,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5.0,
    },
)


@app.task(name="stock.work")
def work(label: str, turns: int) -> None:
    """Do what the counter agent does: some steps of some time, then an end."""
    for step in range(1, turns + 2):
        _line(f"step {label} {step}")
        Event().wait(float(os.environ["STOCK_STEP_SECONDS"]))
    _line(f"end {label}")


def _line(text: str) -> None:
    with Path(os.environ["STOCK_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{text} {os.getpid()} {time.time()}\n")
