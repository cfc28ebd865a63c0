"""JSON as endpoints write it, read fast; what Python's own reader takes is taken."""

from __future__ import annotations

import json
from typing import Final

from pydantic_core import from_json

NOT_JSON: Final = object()
"""Stands for a text that is none."""


def loads(text: bytes) -> object:
    """Return the value.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        # Halves of a surrogate, byte order marks, other encodings, great depth.
        return json.loads(text)


def value_of(text: bytes) -> object:
    """Return the value, or `NOT_JSON`; no error of the reader, which holds the text."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return NOT_JSON
