"""Pictures in messages: which addresses are taken, and where."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from conversations.image import MAX_IMAGES, Image
from conversations.message import Message, Role
from conversations.window import TOKENS_PER_IMAGE, estimate_tokens

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "http://127.0.0.1:8000/x?y=1", PIXEL]
)
def test_addresses_and_pictures_themselves_are_taken(url: str):
    assert Message(role=Role.USER, content="see", images=[Image(url=url)])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "/etc/passwd",
        "javascript:alert(1)",
        "data:text/html;base64,PGI+",
        "data:image/png;base64,not base64",
        "https://",
        "https://a b",
        "ftp://example.com/a.png",
        "https://example.com/\ud800",
    ],
)
def test_anything_else_is_refused_without_being_shown(url: str):
    with pytest.raises(ValidationError) as caught:
        Image(url=url)
    assert "etc/passwd" not in str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_users_show_pictures(role: str):
    with pytest.raises(ValidationError, match="user messages only"):
        Message(role=role, content="see", images=[Image(url=PIXEL)])


def test_the_number_of_pictures_is_bounded():
    with pytest.raises(ValidationError):
        Message(
            role=Role.USER,
            content="see",
            images=[Image(url=PIXEL)] * (MAX_IMAGES + 1),
        )


def test_a_picture_counts_in_the_window():
    plain = Message(role=Role.USER, content="see")
    shown = plain.model_copy(update={"images": (Image(url=PIXEL),)})
    assert estimate_tokens(shown) == estimate_tokens(plain) + TOKENS_PER_IMAGE
