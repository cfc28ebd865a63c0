"""What of a task's input a model sees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.prompt import asked, images_of, prompt_of, question_of

URL = "https://example.com/a.png"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"prompt": "hello"}, "hello"),
        ({"query": "hello", "images": [URL]}, "hello"),
        ({"prompt": "hello", "images": [{"url": URL, "detail": "low"}]}, "hello"),
        ({"images": [URL]}, ""),
        ({"prompt": " ", "images": [URL]}, ""),
    ],
)
def test_a_prompt_stands_alone_with_or_without_pictures(
    data: dict[str, Any], text: str
):
    assert prompt_of(data) == text
    assert [image.url for image in asked(data).images] == [URL] * ("images" in data)


@pytest.mark.parametrize(
    "images", [[], "x", [3], ["/etc/passwd"], [{"url": URL, "novelty": 1}], None, {}]
)
def test_images_that_are_none_are_data_like_any_other(images: Any):
    data = {"prompt": "hello", "images": images}
    assert images_of(data) == ()
    assert json.loads(prompt_of(data)) == data


def test_other_data_is_shown_as_json_without_its_pictures():
    data = {"city": "Oslo", "images": [URL]}
    assert json.loads(prompt_of(data)) == {"city": "Oslo"}


def test_pictures_in_messages_are_asked_about():
    shown = {"role": "user", "content": "", "images": [{"url": URL}]}
    data = {"messages": [{"role": "system", "content": "Be kind."}, shown]}
    question = question_of(data)
    assert (question.content, [image.url for image in question.images]) == ("", [URL])
