"""Python's garbage collector in a process that serves for long."""

from __future__ import annotations

import gc
import linecache
from typing import Final

GC_THRESHOLD: Final = 20_000
"""Objects made, less those freed, between two collections of the youngest."""


def spare_the_collector() -> None:
    """Take what lives as long as the process out of Python's garbage collections.

    A run leaves few cycles, and a thousand runs hold many objects: the default
    thresholds look through all of them again and again, for an eighth of the time; of
    the reading of a large JSON text they take four fifths.
    """
    linecache.clearcache()  # the sources that pydantic has read docstrings from
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
