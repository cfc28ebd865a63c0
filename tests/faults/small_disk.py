"""A disk of a few megabytes that a test may fill."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount one in memory; skips where that is not permitted."""
    place = Path(tempfile.mkdtemp(prefix="clf-disk-"))
    mount, umount = shutil.which("mount"), shutil.which("umount")
    size = f"size={megabytes}m"
    if (
        mount is None
        or umount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", size, "tmpfs", str(place)],
            check=False,
            capture_output=True,
        ).returncode
    ):
        place.rmdir()
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield place
    finally:
        subprocess.run([umount, "-l", str(place)], check=True)
        place.rmdir()


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Leave no byte free on a disk."""
    ballast = place / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1):
                while _write(file.fileno(), size):
                    pass
        yield
    finally:
        ballast.unlink()


def _write(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, b"x" * size) == size
    except OSError:
        return False
