"""Command lines of `celeriac` at work: in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.embedded import redis_version
from orchestrator.errors import StoreUnavailable
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand
from workers.llm.double import Double
from workers.llm.double_script import Script

Run = Callable[..., tuple[int, str, str]]
DOCUMENT = (
    "# Recovery\n\nA lost task is found again by the sweeper, which rings for it.\n"
    "The sweeper runs in every worker process and reads the due index of the store.\n"
    "A lease that is not renewed in time is taken back and the task runs again.\n"
)


@contextmanager
def endpoint(stand: Stand, script: Script | None = None) -> Iterator[Double]:
    """The scripted endpoint on a loop of its own."""
    loop = LoopThread("double")
    double = Double(script)
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    try:
        yield double
    finally:
        loop.await_(double.__aexit__(None, None, None))
        loop.close()


@contextmanager
def process(
    stand: Stand, *arguments: str, redis: bool = True, log: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command line as a process of its own, with its output in a file."""
    path = stand.directory / f"{log or arguments[0]}.log"
    environment = stand.variables()
    if not redis:
        del environment["REDIS_URL"]
    with path.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=stand.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running, path
    finally:
        if running.poll() is None:
            running.terminate()
        running.wait(40)


def children_of(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(word) for word in found.stdout.split()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answers(url: str) -> bool:
    try:
        redis_version(url)
    except StoreUnavailable:
        return False
    return True


def is_served(celeriac: Run) -> bool:
    return "assistant\tllm\t1\t" in celeriac("agents")[1]
