"""Processes that are measured: started, stopped, their CPU and memory from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def process(
    *arguments: str, env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of Python until the block ends."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **env},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def endpoint(log: Path) -> Iterator[tuple[str, int]]:
    """Run the scripted endpoint; yield its URL and process id."""
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.endpoint"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        port = int(child.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1", child.pid
    finally:
        child.stdin.close()
        child.wait(10)
        child.stdout.close()


def scripts_called(commandstats: Mapping[str, Any]) -> int:
    """Return how many scripts a server has run, as text or as functions."""
    names = "cmdstat_evalsha", "cmdstat_fcall"
    return sum(commandstats.get(name, {"calls": 0})["calls"] for name in names)
