"""Real workers: subprocesses of `celery -A workers worker`, ended by their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from orchestrator import Orchestrator, Settings, load_settings

START_SECONDS = 60.0
STOP_SECONDS = 20.0
STOCK = (sys.executable, "-m", "celery", "-A", "workers", "worker")


@dataclass
class RunningWorker:
    """A worker process of one test."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        return self.process.wait(timeout)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Stand:
    """One test's Redis database, endpoint and workers."""

    redis_url: str
    directory: Path
    llm_url: str = "http://127.0.0.1:9/v1"
    broker_url: str | None = None
    """Celery's broker, where it is not the store's Redis."""
    environment: dict[str, str] = field(default_factory=dict)
    workers: list[RunningWorker] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        kept = (
            "PATH",
            "HOME",
            "LANG",
            "TMPDIR",
            "VIRTUAL_ENV",
            "COVERAGE_PROCESS_CONFIG",
        )
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        return {
            **inherited,
            "REDIS_URL": self.redis_url,
            "OPENAI_BASE_URL": self.llm_url,
            **self._broker(),
            **self.environment,
        }

    def _broker(self) -> dict[str, str]:
        return (
            {"CELERIAC_STORAGE__BROKER_URL": self.broker_url} if self.broker_url else {}
        )

    def settings(self, **overrides: Mapping[str, object]) -> Settings:
        return load_settings(
            storage={"redis_url": self.redis_url, "broker_url": self.broker_url},
            llm={"base_url": self.llm_url},
            **overrides,
        )

    def start_worker(
        self,
        *arguments: str,
        slots: int = 4,
        wait: bool = True,
        program: Sequence[str] = STOCK,
    ) -> RunningWorker:
        """Start a worker and wait until it is announced."""
        number = len(self.workers) + 1
        log = self.directory / f"worker-{number}.log"
        options = ["-n", f"w{number}@%h", "-c", str(slots), "-l", "INFO", *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*program, *options],
                cwd=self.directory,
                env=self.variables(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = RunningWorker(process, log)
        self.workers.append(worker)
        if wait:
            self._await_announcement(worker, number)
        return worker

    def _await_announcement(self, worker: RunningWorker, number: int) -> None:
        def announced() -> bool:
            assert worker.process.poll() is None, worker.text()
            return any(info.hostname.startswith(f"w{number}@") for info in live())

        with Orchestrator(self.settings()) as celeriac:
            live = celeriac.workers
            wait_until(announced, START_SECONDS, worker.text)


def wait_until(
    condition: Callable[[], bool],
    timeout: float,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Poll a condition that nothing announces, with a deadline."""
    deadline = time.monotonic() + timeout
    pause = Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {explain()}"
        pause.wait(0.05)
