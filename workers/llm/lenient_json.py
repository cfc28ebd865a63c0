"""JSON as endpoints write it, read fast; what Python's own reader takes is taken."""

from __future__ import annotations

import json

from pydantic_core import from_json


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
