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
from conversations.json_value import check_text
from conversations.message import Message, Role
from conversations.shared_names import sharing_names
from conversations.trusted import trusted

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


def question_of(data: Mapping[str, JsonValue]) -> Message:
    """Return what was asked in one message, for a history that holds no more of it."""
    if MESSAGES_FIELD not in data:
        return asked(data)
    opening = opening_of(data)
    texts = [
        message.content
        for message in opening
        if message.role in (Role.USER, Role.TOOL) and message.content.strip()
    ]
    images = [image for message in opening for image in message.images]
    content = "\n\n".join(texts) or ("" if images else prompt_of(data))
    return Message(role=Role.USER, content=content, images=tuple(images[:MAX_IMAGES]))


def prompt_of(data: Mapping[str, JsonValue]) -> str:
    """Return the words for the model: a prompt field alone, else all as JSON.

    Pictures are no words; with them a blank field, or none, says nothing.
    """
    words = dict(data)
    if images_of(data):
        words = {name: value for name, value in data.items() if _says(name, value)}
        if not words:
            return ""
    for field in PROMPT_FIELDS:
        value = words.get(field)
        if isinstance(value, str) and value.strip() and len(words) == 1:
            return value
    return json.dumps(words, ensure_ascii=False, indent=2)


def _says(name: str, value: JsonValue) -> bool:
    is_blank = isinstance(value, str) and not value.strip()
    return name != IMAGES_FIELD and not (name in PROMPT_FIELDS and is_blank)


def images_of(data: Mapping[str, JsonValue]) -> tuple[Image, ...]:
    """Return the pictures for the model: a list of addresses or of their fields.

    What is no such list is data like any other.
    """
    if IMAGES_FIELD not in data:
        return ()
    try:
        return _IMAGES.validate_python(data.get(IMAGES_FIELD))
    except ValidationError:
        return ()


def asked(data: Mapping[str, JsonValue]) -> Message:
    """Return the message that a task's input is to a model."""
    words, images = prompt_of(data), images_of(data)
    if words.strip() and not images:  # as most are
        return trusted(Message, role=Role.USER, content=check_text(words))
    return sharing_names(Message(role=Role.USER, content=words, images=images))


def _from_address(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


_IMAGES = TypeAdapter(
    Annotated[
        tuple[Annotated[Image, BeforeValidator(_from_address)], ...],
        Field(min_length=1, max_length=MAX_IMAGES),
    ]
)
