"""A process that is gone is told from one that lives, and from those of elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.local_process import is_dead, worker_id

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/ns/pid").is_symlink(), reason="the kernel is not told"
)
SAY = "from orchestrator.local_process import worker_id; print(worker_id(), flush=True)"


def test_this_process_lives() -> None:
    assert not is_dead(worker_id())


def test_another_process_is_dead_once_it_was_killed_and_before_it_is_reaped() -> None:
    code = f"{SAY}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        name = child.stdout.readline().decode().strip()
        assert not is_dead(name)
        child.kill()
        assert child.stdout.read() == b""
        while not is_dead(name):
            assert child.returncode is None, "the test waits for what the kernel does"
        child.wait()
    assert is_dead(name)


def test_a_process_id_that_was_used_again_is_another_process() -> None:
    host, pid, birth = worker_id().rsplit(":", 2)
    born, _, kernel = birth.partition("-")
    assert is_dead(f"{host}:{pid}:{int(born) + 1}-{kernel}")


@pytest.mark.parametrize(
    "change",
    [
        lambda host, pid, birth: f"other-{host}:{pid}:1{birth}",
        lambda host, pid, birth: f"{host}:{pid}:1{birth[:-1]}",
        lambda host, pid, birth: f"{host}:{pid}:1732480000",
        lambda host, pid, birth: f"{host}:x:{birth}",
        lambda host, pid, birth: birth,
        lambda host, pid, birth: "",
    ],
)
def test_what_is_not_surely_of_this_kernel_is_never_taken_for_dead(
    change: object,
) -> None:
    assert callable(change)
    assert not is_dead(change(*worker_id().rsplit(":", 2)))
