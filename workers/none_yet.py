"""The empty set, once: a run has several that few runs fill, 216 bytes each."""

from __future__ import annotations

from typing import Final, Never

NONE: Final[frozenset[Never]] = frozenset()
