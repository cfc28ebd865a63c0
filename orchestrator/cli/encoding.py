"""What the locale says of text: which arguments it can read, what it can show.

Python takes an argument's bytes that are no text of the locale for lone surrogates,
which nothing can store.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable
from typing import Final

import click

_ESCAPED: Final = range(0xDC80, 0xDD00)
"""What stands for a byte that could not be decoded (PEP 383)."""
_REMEDY: Final = "set LC_ALL to a UTF-8 locale such as C.UTF-8, or PYTHONUTF8=1"


def unreadable(arguments: Iterable[str]) -> str | None:
    """Return what is wrong with an argument that is no text, unless it is a file."""
    encoding = sys.getfilesystemencoding()
    for number, argument in enumerate(arguments, start=1):
        if any(ord(char) in _ESCAPED for char in argument):
            if os.path.lexists(argument):
                continue
            if _is_utf_8(encoding):
                return f"argument {number} is not UTF-8; write it in UTF-8"
            return (
                f"argument {number} is not {encoding}, which the locale says that text"
                f" is; {_REMEDY}"
            )
    return None


def show_whatever_is_written() -> None:
    """Have standard output spell out what its encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def output_is_utf_8() -> bool:
    """Whether standard output takes any character."""
    return _is_utf_8(getattr(sys.stdout, "encoding", None) or "utf-8")


def standard_input() -> str:
    """Read standard input, which is UTF-8 in every locale.

    Raises:
        BadParameter: it is not.
    """
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise click.BadParameter(
            f"standard input is not UTF-8 at byte {exc.start}; convert it, such as"
            " with iconv -t UTF-8",
            param_hint="INPUT",
        ) from None


def _is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"
