"""Finds secrets in foreign texts, also where they are escaped, encoded or in pieces.

A secret is known in every form in which a server writes texts: as it is, escaped for
JSON, URLs or HTML, to any depth, as part of a login in base64, and in hex. A form that
a model makes up (backwards, with blanks between) is not.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from html import unescape
from html.entities import codepoint2name
from itertools import chain
from string import ascii_letters, digits
from typing import Final
from urllib.parse import unquote

SHORTEST_SECRET: Final = 4
"""Shorter ones are placeholders; removing them would only garble texts."""
_STAND_IN: Final = "[secret]"
_SHORTEST_CODED: Final = 8
"""Of a secret in base64 or hex; less stands in many a text."""
_ESCAPE: Final = r"(?:\\{1,8})"
"""Of JSON, also in JSON in JSON; bounded, so that no text takes long to search."""
_BACK: Final = "\\"
_AGAIN: Final = "(?:%s){,4}"
"""What is escaped again in URLs and HTML."""
_BASE64: Final = frozenset(ascii_letters + digits + "+/-_=")
_MOST_LEVELS: Final = 8
_FRAGMENT: Final = 6
"""Characters of a secret that stand together by chance in few texts."""
_BETWEEN_WORDS: Final = frozenset(" \t\r\n\"'<>")
_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_HEX_RUN: Final = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
_BACKSLASH: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Secrets:
    """What must not stand in a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {each for each in secrets if len(each) >= SHORTEST_SECRET}
        longest = sorted(known, key=len, reverse=True)
        plain = [_escaped(each) for each in longest]
        coded = [form for each in longest for form in _codings(each.encode())]
        forms = [*plain, f"(?P<coded>{'|'.join(coded) or '(?!)'})"]
        self._pattern = re.compile("|".join(forms)) if known else None
        self._known = longest
        self._fragments = frozenset(chain.from_iterable(map(_fragments, known)))

    def without(self, text: str) -> str:
        """Return the text with a mark in the place of each."""
        return "".join(self.without_in_pieces([text]))

    def without_begun(self, text: str) -> str:
        """Return a text that was cut without what may be the beginning of one.

        That is its last word, in which it may be coded, and what one begins with.
        """
        if not self._known:
            return text
        end = len(text)
        while end and text[end - 1] not in _BETWEEN_WORDS:
            end -= 1
        text = text[:end]
        for secret in self._known:
            begun = (n for n in range(len(secret), 0, -1) if text.endswith(secret[:n]))
            text = text[: len(text) - next(begun, 0)]
        return text

    def without_in_pieces(self, pieces: Sequence[str]) -> list[str]:
        """Return the pieces of a text that hides none of them when joined either.

        The mark stands in the piece in which the secret begins.
        """
        left = list(pieces)
        for begin, end in reversed(self._spans("".join(pieces))):
            _replace(left, begin, end)
        return left

    def may_stand_in(self, text: str, *, levels: int = _MOST_LEVELS) -> bool:
        """Whether one does, behind escapes and codings of each other; True if in doubt.

        Args:
            text: Where to look.
            levels: So often something is undone.
        """
        for level in range(levels):
            before = text
            for undo in (str, _without_backslashes, unquote, unescape):
                text = undo(text)
                if self._pattern and self._pattern.search(text):
                    return True
            rest = levels - level - 1
            if any(self.may_stand_in(each, levels=rest) for each in _decoded(text)):
                return True
            if text == before:
                return False
        return True

    def have_left_parts_in(self, text: str) -> bool:
        """Whether a part of one stands there, in which it may be torn up."""
        return any(part in text for part in self._fragments)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return where they stand, in order, none within another."""
        spans: list[tuple[int, int]] = []
        for found in self._pattern.finditer(text) if self._pattern else ():
            begin, end = _widened(found) if found["coded"] else found.span()
            if spans and begin < spans[-1][1]:
                begin, end = spans[-1][0], max(end, spans.pop()[1])
            spans.append((begin, end))
        return spans


def _fragments(secret: str) -> list[str]:
    length = min(_FRAGMENT, len(secret))
    return [secret[at : at + length] for at in range(len(secret) - length + 1)]


def _without_backslashes(text: str) -> str:
    return _BACKSLASH.sub(_meant, text)


def _meant(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPED.get(found[2], found[2])


def _decoded(text: str) -> Iterator[str]:
    """Yield what base64 and hex in a text stand for."""
    for run in _HEX_RUN.findall(text):
        yield bytes.fromhex(run).decode("latin-1")
    for run in _BASE64_RUN.findall(text):
        whole = run[: len(run) // 4 * 4] if len(run) % 4 == 1 else run + "=" * 3
        with suppress(ValueError):
            yield b64decode(whole, altchars=b"-_").decode("latin-1")


def _widened(found: re.Match[str]) -> tuple[int, int]:
    """Take what is coded along: its first and last signs hold bits of the secret."""
    begin, end = found.span()
    text = found.string
    while begin and text[begin - 1] in _BASE64:
        begin -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return begin, end


def _replace(pieces: list[str], begin: int, end: int) -> None:
    """Put the mark in the place of a span of the joined pieces."""
    at, mark = 0, _STAND_IN
    for number, piece in enumerate(pieces):
        first, last = max(begin - at, 0), min(end - at, len(piece))
        if first < last:
            pieces[number] = piece[:first] + mark + piece[last:]
            mark = ""
        at += len(piece)


def _escaped(secret: str) -> str:
    """Return a pattern of the text in any escaping."""
    runs = re.findall(r"\\+|[^\\]", secret)
    return "".join(_backslashes() if run[0] == "\\" else _any_form(run) for run in runs)


def _backslashes() -> str:
    """Return a pattern of any number of them, for which only one way is tried."""
    literal = r"\\(?!u[0-9a-fA-F]{4})"
    return f"(?>(?:{literal}|{_any_form(_BACK)}){{1,32}})"


def _any_form(char: str) -> str:
    """Return a pattern of a character as JSON, URLs and HTML may write it."""
    number, units = ord(char), char.encode("utf-16-be").hex()
    pairs = [units[at : at + 4] for at in range(0, len(units), 4)]
    ways = [
        *([] if char == _BACK else [re.escape(char)]),
        "".join(rf"{_ESCAPE}u(?i:{pair})" for pair in pairs),
        "".join(rf"%{_AGAIN % 25}(?i:{byte:02x})" for byte in char.encode()),
        rf"&{_AGAIN % 'amp;'}#(?:0{{,8}}{number}|[xX]0{{,8}}(?i:{number:x}));?",
    ]
    if char == " ":
        ways.append(r"\+")
    if char in '"/':
        ways.append(_ESCAPE + re.escape(char))
    if number in codepoint2name:
        ways.append(rf"&{_AGAIN % 'amp;'}{codepoint2name[number]};")
    return f"(?:{'|'.join(ways)})"


def _codings(secret: bytes) -> Iterator[str]:
    """Yield patterns of what every coding of a text that holds the secret has."""
    if len(secret) < _SHORTEST_CODED:
        return
    yield rf"(?i:{secret.hex()})"
    for before in range(3):
        # A base64 sign holds six bits: those at the ends hold other text too.
        coded = b64encode(bytes(before) + secret).decode()
        core = coded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield "".join(map(_base64_sign, core))


def _base64_sign(sign: str) -> str:
    other = {"+": "-", "/": "_"}.get(sign)
    return f"(?:{_any_form(sign)}|{other})" if other else re.escape(sign)
