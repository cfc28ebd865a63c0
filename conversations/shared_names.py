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
    names = shared(value.__pydantic_fields_set__)
    object.__setattr__(value, "__pydantic_fields_set__", names)
    return value


def shared(names: set[str]) -> set[str]:
    """Return the one set of these names, which nobody changes."""
    return _known.setdefault(frozenset(names), names)
