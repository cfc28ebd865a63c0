"""Workers of the small Celery application, each a process on a Redis of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from orchestrator.redis_url import for_kombu
from tests.integration.celery_app import ASYNC_POOL, COUNTS, NOTES, SETTINGS_VARIABLE
from tests.stand import wait_until

START_SECONDS = 30.0
STOP_SECONDS = 20.0
ROOT = Path(__file__).parents[2]
TASKS = "tests.integration.celery_app"


class CeleryWorker:
    """One worker process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(STOP_SECONDS)

    def await_log(self, text: str, seconds: float = START_SECONDS) -> None:
        def found() -> bool:
            assert self.process.poll() is None, self.text()
            return text in self.text()

        wait_until(found, seconds, self.text)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)


class CeleryStand:
    """A broker, a producer on stock kombu, and workers."""

    def __init__(self, url: str, directory: Path, *, prefix: str = "") -> None:
        self.url = url
        self.directory = directory
        self.prefix = prefix
        self.redis = redis.Redis.from_url(url)
        self.producer = Celery("producer", set_as_current=False)
        self.producer.conf.update(**self._conf(), task_ignore_result=True)
        self.workers: list[CeleryWorker] = []

    def _conf(self, **options: Any) -> dict[str, Any]:
        return {
            "broker_url": for_kombu(self.url),
            "broker_transport_options": {"global_keyprefix": self.prefix, **options},
        }

    def start_worker(
        self,
        *arguments: str,
        pool: str = ASYNC_POOL,
        slots: int = 10,
        lean: bool = True,
        count_signals: bool = False,
        transport_options: dict[str, Any] | None = None,
        **conf: Any,
    ) -> CeleryWorker:
        """Start a worker and wait until it is ready."""
        options = {
            "store": self.url,
            "lean": lean,
            "count_signals": count_signals,
            "conf": {
                **self._conf(**(transport_options or {})),
                "worker_pool": pool,
                **conf,
            },
        }
        log = self.directory / f"worker-{len(self.workers) + 1}.log"
        command = [sys.executable, "-m", "celery", "-A", TASKS, "worker"]
        command += ["-c", str(slots), "-l", "INFO", "--without-gossip"]
        command += ["--without-mingle", *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, SETTINGS_VARIABLE: json.dumps(options)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        worker = CeleryWorker(process, log)
        self.workers.append(worker)
        worker.await_log("ready.")
        return worker

    def send(self, task: str, *args: Any, **options: Any) -> str:
        return str(self.producer.send_task(f"{TASKS}.{task}", args, **options).id)

    def send_many(self, task: str, *args: Any, count: int) -> None:
        with (
            self.producer.connection_for_write() as connection,
            connection.Producer() as producer,
        ):
            for _ in range(count):
                self.send(task, *args, producer=producer)

    def notes(self) -> list[str]:
        return [note.decode() for note in self.redis.lrange(NOTES, 0, -1)]

    def counts(self) -> dict[str, int]:
        found = self.redis.hgetall(COUNTS)
        return {name.decode(): int(count) for name, count in found.items()}

    def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        wait_until(condition, seconds, self.explain)

    def until_notes(self, count: int, seconds: float = 10.0) -> list[str]:
        self.until(lambda: len(self.notes()) >= count, seconds)
        return self.notes()

    def ask(self, question: str, **options: Any) -> Any:
        """Return the only worker's answer to a remote control question."""
        with self.producer.connection_for_write() as connection:
            inspect = self.producer.control.inspect(
                timeout=5.0, limit=1, connection=connection
            )
            answer = getattr(inspect, question)(**options)
        assert answer, self.explain()
        return next(iter(answer.values()))

    def explain(self) -> str:
        return "\n".join(worker.text()[-4000:] for worker in self.workers)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.producer.close()
        self.redis.close()


@contextmanager
def celery_stand(
    url: str, directory: Path, *, prefix: str = ""
) -> Iterator[CeleryStand]:
    """A stand whose workers are killed at the end."""
    stand = CeleryStand(url, directory, prefix=prefix)
    try:
        yield stand
    finally:
        stand.close()
