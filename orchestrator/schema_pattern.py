"""Regular expressions of a schema that somebody sends, matched in linear time.

Python's own may take longer for one text than anybody waits, and let no other thread on
meanwhile (CWE-1333). Rust's, which pydantic brings along, cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

MOST_PATTERNS: Final = 32
"""Of one schema; each may take 10 MiB and a twentieth of a second to make."""
_CHARACTERS: Final = 2_000
"""That a pattern of 10 MiB, the engine's limit, may be tried on: a second."""


class TextTooLong(Exception):
    """A pattern is too large for so long a text."""


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


def fitting_matcher(
    pattern: str, text: str, made: dict[tuple[str, int], Callable[[str], bool]]
) -> Callable[[str], bool]:
    """Return the matcher of a pattern that is small enough for so long a text.

    Linear is the time in the text, times the size of the pattern, and no other thread
    goes on meanwhile. So for a text of n times 2,000 characters n copies of the pattern
    must fit into the engine's limit, which is not ours to set.

    Raises:
        TextTooLong: they do not.
    """
    if (pattern, 1) not in made:
        made[pattern, 1] = matcher(pattern)
    if (copies := len(text) // _CHARACTERS + 1) > 1 and (pattern, copies) not in made:
        try:
            matcher(f"(?:{pattern}\n){{{copies}}}")  # the line ends a comment in it
        except ValueError:
            raise TextTooLong(
                f"a text of {len(text)} characters is too long for the pattern"
                f" {pattern[:100]!r}"
            ) from None
        made[pattern, copies] = made[pattern, 1]
    return made[pattern, 1]
