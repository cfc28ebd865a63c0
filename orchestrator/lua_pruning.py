"""Which of the shared Lua functions a script needs.

Redis runs a script's text from the top at each call: a function that is only defined
costs as much as a read. Knows no script; the sources keep one rule, that a top-level
function or table begins with `local` and ends with a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_BEGIN: Final = re.compile(r"local (?:function (\w+)\(|(\w+) = \{$)")
_END: Final = ("end", "}")
_NAME: Final = re.compile(r"\w+")


def pruned(shared: str, script: str) -> str:
    """Return `shared` without the functions and tables that `script` never reaches."""
    pieces = list(parts(shared))
    found = reached(pieces, script)
    return "".join(text for name, text in pieces if not name or name in found)


def reached(pieces: Sequence[tuple[str, str]], script: str) -> set[str]:
    """Return which of the named parts a script needs, or what stands between them."""
    text_of = {name: text for name, text in pieces if name}
    wanted = set(_NAME.findall(script))
    for name, text in pieces:
        if not name:
            wanted.update(_NAME.findall(text))
    needed: set[str] = set()
    while found := (wanted & text_of.keys()) - needed:
        needed |= found
        for name in found:
            wanted.update(_NAME.findall(text_of[name]))
    return needed


def parts(source: str) -> Iterator[tuple[str, str]]:
    """Yield each top-level function and table by name, and the lines between."""
    name, lines = "", list[str]()
    for line in source.splitlines(keepends=True):
        begins = None if name else _BEGIN.match(line)
        if begins:
            yield "", _code(lines)
            name, lines = begins[1] or begins[2], []
        lines.append(line)
        if name and line.rstrip() in _END:
            yield name, "".join(lines)
            name, lines = "", []
    yield "", _code(lines)


def _code(lines: list[str]) -> str:
    """Leave out comments: they name functions that nobody calls."""
    return "".join(line for line in lines if not line.startswith("--"))
