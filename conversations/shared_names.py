"""Which fields of a value were given, kept once for all values alike.

Pydantic makes a set of their names for each value, which for a short message is as
large as its text; a worker holds thousands of values at once.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
_known: dict[frozenset[str], set[str]] = {}


def sharing_names(value: M) -> M:
    """Return a frozen value, its names shared; a copy of it has names of its own.

    For models that forbid other fields: so there are few forms, and few sets.
    """
    names = value.__pydantic_fields_set__
    shared = _known.setdefault(frozenset(names), names)
    object.__setattr__(value, "__pydantic_fields_set__", shared)
    return value
