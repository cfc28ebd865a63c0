"""A wrong wall clock for one process and all that it starts: no library is preloaded.

`sitecustomize.py` in a directory of PYTHONPATH runs in every Python of a worker before
anything else. It shifts each clock that Python code can read; the monotonic one stays.
"""

from __future__ import annotations

from pathlib import Path

SHIFT = """
import datetime, os, time

offset = float(os.environ["FAULT_CLOCK_SECONDS"])
real, real_ns = time.time, time.time_ns
real_local, real_gm = time.localtime, time.gmtime
time.time = lambda: real() + offset
time.time_ns = lambda: real_ns() + int(offset * 1e9)
time.localtime = lambda seconds=None: real_local(
    time.time() if seconds is None else seconds
)
time.gmtime = lambda seconds=None: real_gm(time.time() if seconds is None else seconds)
shift = datetime.timedelta(seconds=offset)


class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + shift

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)


datetime.datetime = Wrong
with open(os.environ["FAULT_CLOCK_SEEN"], "a") as seen:
    print(os.getpid(), time.time() - real(), file=seen)
"""


def wrong_clock(directory: Path, offset_seconds: float) -> dict[str, str]:
    """Return the environment in which a process's wall clock is wrong."""
    place = directory / "wrong_clock"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(SHIFT)
    return {
        "PYTHONPATH": str(place),
        "FAULT_CLOCK_SECONDS": str(offset_seconds),
        "FAULT_CLOCK_SEEN": str(directory / "clocks.log"),
    }
