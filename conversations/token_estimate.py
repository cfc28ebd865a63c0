"""How many tokens a text has, roughly; no tokenizer is at hand for an arbitrary model.

Held against three vocabularies (32,000, 65,000 and 131,000 entries) the estimate is, as
a multiple of the true number: English and code 0.9 to 1.2, JSON 0.8 to 1.1, random hex
0.7 to 1.2, German 0.8 to 1.1, Chinese and Japanese 0.9 to 1.4, Korean 0.8 to 1.6,
Arabic 0.6 to 1.7, Russian 1.1 to 2.1, Hindi 0.8 to 2.7, pictographs 0.4 to 0.6.
"""

from __future__ import annotations

import string
from typing import Final

PARTS: Final = 18
"""Of a token; the weights below are in these."""
_LETTER: Final = 4
"""Words of Latin letters, with the blanks between them: 4.5 letters a token."""
_SIGN: Final = 9
_DIGIT: Final = 18
_OTHER_BYTE: Final = 6
"""Of any other script in UTF-8: three bytes a token."""

_LETTERS: Final = (string.ascii_letters + " \n").encode()
_DIGITS: Final = string.digits.encode()
_OTHER_BYTES: Final = bytes(range(128, 256))


def tokens_in(text: str) -> int:
    """Tokens of a text, rounded up."""
    return whole_tokens(parts_in(text))


def parts_in(text: str) -> int:
    """Tokens of a text in parts, of which those of two texts together are the sum."""
    data = text.encode("utf-8", "replace")
    rest = data.translate(None, _LETTERS)
    ascii_rest = rest if text.isascii() else rest.translate(None, _OTHER_BYTES)
    signs = len(ascii_rest.translate(None, _DIGITS))
    return (
        _LETTER * (len(data) - len(rest))
        + _SIGN * signs
        + _DIGIT * (len(ascii_rest) - signs)
        + _OTHER_BYTE * (len(rest) - len(ascii_rest))
    )


def whole_tokens(parts: int) -> int:
    """Tokens of so many parts, rounded up."""
    return -(-parts // PARTS)
