"""What comes from models, tools and agents is never refused for its text: it is mended.

A run that has been paid for must not fail for a character. What people and programs
send is refused instead, by `admission`.
"""

from __future__ import annotations

from pydantic import JsonValue

from conversations.json_value import MAX_DEPTH, NotStorable

REPLACEMENT = "\ufffd"
"""Stands for what no text may hold, as Unicode wants it."""
ESCAPED_NUL = "\\u0000"
"""NUL as JSON writes it."""
_DEEPEST = MAX_DEPTH + 8
"""A message has some levels around the values in it."""


def mended(text: str) -> str:
    """Replace NULs; join halves of a surrogate, replace one that has no other."""
    text = text.replace("\0", REPLACEMENT)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def mended_json(value: JsonValue, depth: int = 0) -> JsonValue:
    """Mend the texts and names in a value.

    Raises:
        NotStorable: it is nested too deep, perhaps in itself.
    """
    if isinstance(value, str):
        return mended(value)
    if depth > _DEEPEST:
        raise NotStorable("", f"nested deeper than {MAX_DEPTH} levels; flatten it")
    if isinstance(value, (list, tuple)):
        return [mended_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {
            mended(name) if isinstance(name, str) else name: mended_json(
                item, depth + 1
            )
            for name, item in value.items()
        }
    return value
