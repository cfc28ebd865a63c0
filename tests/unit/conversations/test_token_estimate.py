"""The estimate, held against counts of three real vocabularies."""

from __future__ import annotations

import pytest

from conversations.token_estimate import tokens_in

ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed"
    " with reason and conscience and should act towards one another in a spirit of"
    " brotherhood."
)
CHINESE = (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，"  # noqa: RUF001
    "并应以兄弟关系的精神相对待。"
)
HEX = "3f2b8c1d9e7a4056b1c2d3e4f5a69788 90ab12cd34ef56ab78cd90ef12ab34cd"
ROWS = '[{"id":1,"name":"order 1","price":1.25},{"id":2,"name":"order 2","price":2.5}]'


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (ENGLISH, (33, 33, 34)),
        (CHINESE, (49, 39, 44)),
        (HEX, (43, 57, 58)),
        (ROWS, (32, 36, 36)),
    ],
)
def test_the_estimate_is_near_what_tokenizers_count(
    text: str, counts: tuple[int, ...]
) -> None:
    estimate = tokens_in(text)
    assert min(counts) * 0.7 <= estimate <= max(counts) * 1.4


def test_longer_text_never_has_fewer_tokens() -> None:
    text = f"{ENGLISH} {CHINESE} {HEX} {ROWS}"
    counts = [tokens_in(text[:end]) for end in range(len(text) + 1)]
    assert counts == sorted(counts)
    assert counts[0] == 0


def test_any_text_has_an_estimate() -> None:
    assert tokens_in("\ud800\x00") >= 1
