"""Regular expressions of a schema that somebody sends, matched in linear time.

Python's own may take longer for one text than anybody waits, and let no other thread on
meanwhile (CWE-1333). Rust's, which pydantic brings along, cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

MOST_PATTERNS: Final = 32
"""Of one schema; each may take 10 MiB and a twentieth of a second to make."""


@lru_cache(maxsize=MOST_PATTERNS)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a text holds a match.

    Raises:
        ValueError: it is none, too large, or has look-around or back-references.
    """
    text = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
    try:
        return SchemaValidator(text).isinstance_python
    except SchemaError as exc:
        reason = str(exc).splitlines()[-1].strip().removeprefix("error: ")
        raise ValueError(
            f"pattern {pattern[:100]!r} cannot be used ({reason[:200]})"
        ) from None
