"""The words of a task's input that a model is given: a pure function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from conversations.image import MAX_IMAGES, Image
from conversations.message import Message, Role

PROMPT_FIELDS: Final = ("prompt", "query", "question", "message", "text", "input")
"""Where a task's input may hold the words for the model, in order of preference."""
IMAGES_FIELD: Final = "images"
"""Where it may hold pictures for the model."""
MESSAGES_FIELD: Final = "messages"
"""Where a task's input may hold a turn that begins with several messages."""
_MESSAGES = TypeAdapter(tuple[Message, ...])


def opening_of(data: Mapping[str, JsonValue]) -> tuple[Message, ...]:
    """Return the messages that a turn begins with: those given, else the prompt."""
    if MESSAGES_FIELD in data:
        try:
            given = _MESSAGES.validate_python(data[MESSAGES_FIELD])
        except ValidationError:
            given = ()
        if given:
            return given
    return (asked(data),)


def question_of(data: Mapping[str, JsonValue]) -> str:
    """Return what was asked, in one text, for a history that holds no more of it."""
    texts = [
        message.content
        for message in opening_of(data)
        if message.role in (Role.USER, Role.TOOL) and message.content.strip()
    ]
    return "\n\n".join(texts) or prompt_of(data)


def prompt_of(data: Mapping[str, JsonValue]) -> str:
    """Return the words for the model: a prompt field alone, else all as JSON."""
    words = {name: value for name, value in data.items() if name != IMAGES_FIELD}
    if not images_of(data):
        words = dict(data)
    for field in PROMPT_FIELDS:
        value = words.get(field)
        if isinstance(value, str) and value.strip() and len(words) == 1:
            return value
    return json.dumps(words, ensure_ascii=False, indent=2)


def images_of(data: Mapping[str, JsonValue]) -> tuple[Image, ...]:
    """Return the pictures for the model: a list of addresses or of their fields.

    What is no such list is data like any other.
    """
    try:
        return _IMAGES.validate_python(data.get(IMAGES_FIELD))
    except ValidationError:
        return ()


def asked(data: Mapping[str, JsonValue]) -> Message:
    """Return the message that a task's input is to a model."""
    return Message(role=Role.USER, content=prompt_of(data), images=images_of(data))


def _from_address(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


_IMAGES = TypeAdapter(
    Annotated[
        tuple[Annotated[Image, BeforeValidator(_from_address)], ...],
        Field(min_length=1, max_length=MAX_IMAGES),
    ]
)
