"""The words of a task's input that a model is given: a pure function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from conversations.message import Message, Role

PROMPT_FIELDS: Final = ("prompt", "query", "question", "message", "text", "input")
"""Where a task's input may hold the words for the model, in order of preference."""


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
    return (Message(role=Role.USER, content=prompt_of(data)),)


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
    for field in PROMPT_FIELDS:
        value = data.get(field)
        if isinstance(value, str) and value.strip() and len(data) == 1:
            return value
    return json.dumps(data, ensure_ascii=False, indent=2)
