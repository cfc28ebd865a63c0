"""What a task's input may say as the beginning of a turn, checked before it is stored.

A run that has been paid for must not fail because its question fits in no history.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from conversations.errors import RoleForbidden
from conversations.json_value import NotStorable, check_no_nul
from conversations.mending import ESCAPED_NUL
from conversations.message import Message, Role
from conversations.record import write_message
from orchestrator.agent_kinds import OUR_KINDS
from orchestrator.errors import InvalidInput, PayloadTooLarge
from orchestrator.prompt import (
    IMAGES_FIELD,
    MESSAGES_FIELD,
    PROMPT_FIELDS,
    images_of,
    opening_of,
)

_OWN: Final = (Role.USER, Role.TOOL)
"""Every client asks, and answers the calls that are its to make."""
_ASKS: Final = (*PROMPT_FIELDS, MESSAGES_FIELD)
_GROWTH: Final = 16
"""So many times larger than the input a message may be that shows it as JSON."""


def check_asked(data: Mapping[str, JsonValue], kind: str) -> None:
    """Refuse an input that asks nothing, where an agent of ours would be given it.

    What a model would see of it is the JSON of an empty field. A picture alone is a
    question, and so is no field at all: the instructions may say everything.

    Raises:
        InvalidInput: names the blank field.
    """
    if kind not in OUR_KINDS:
        return
    for name in _ASKS:
        value = data.get(name)
        if isinstance(value, str) and not _is_blank(value):
            return
    asks = {name: data[name] for name in _ASKS if name in data}
    is_alone = len(asks) == len(data) or kind == "researcher"
    if not asks or not is_alone or not all(map(_is_blank, asks.values())):
        return
    if not images_of(data):
        name = next(iter(asks))
        what = "some messages" if name == MESSAGES_FIELD else "text that is not blank"
        raise InvalidInput(
            f"input.{name}", f"asks nothing (got {_shown(asks[name])}); give {what}"
        )


def _is_blank(value: JsonValue) -> bool:
    if isinstance(value, list):
        return all(map(_is_silent, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _is_silent(value: JsonValue) -> bool:
    """Whether it is a message of a user that neither says nor shows anything."""
    if not isinstance(value, dict) or value.get("role") != "user":
        return False
    return _is_blank(value.get("content")) and not value.get(IMAGES_FIELD)


def _shown(value: JsonValue) -> str:
    if isinstance(value, str):
        return f"{len(value)} characters, all blank" if value else "an empty text"
    return "null" if value is None else "a list that says nothing"


def check_opening(
    data: Mapping[str, JsonValue], *, roles: Collection[Role], max_bytes: int | None
) -> None:
    """Check the messages that a turn would begin with.

    Raises:
        RoleForbidden: `roles` does not hold one that the input writes for others.
        PayloadTooLarge: one exceeds `max_bytes`; None sets no bound.
        InvalidInput: one that enters a history, and so is bounded, holds a NUL.
    """
    if MESSAGES_FIELD in data:
        check_roles(opening_of(data), roles, field=f"input.{MESSAGES_FIELD}")
    if max_bytes is None:
        return
    text = to_json(dict(data))
    if ESCAPED_NUL.encode() in text:
        _check_no_nul(data)
    if len(text) * _GROWTH <= max_bytes:
        return
    for place, message in enumerate(opening_of(data)):
        size = len(write_message(message).encode())
        if size > max_bytes:
            field = f"input.{MESSAGES_FIELD}[{place}]"
            given = field if MESSAGES_FIELD in data else "input"
            raise PayloadTooLarge(given, size=size, limit=max_bytes)


def _check_no_nul(data: Mapping[str, JsonValue]) -> None:
    """Refuse a NUL in what a model is given; elsewhere in an input it is data."""
    try:
        for message in opening_of(data):
            check_no_nul(message.model_dump(mode="json"))
    except NotStorable:
        try:
            check_no_nul(dict(data), path="input")
        except NotStorable as exc:
            raise InvalidInput(exc.path, exc.reason) from None


def check_roles(
    opening: Sequence[Message], roles: Collection[Role], *, field: str
) -> None:
    """Refuse what a client would put into another's mouth.

    Raises:
        RoleForbidden: names the first such message.
    """
    for place, message in enumerate(opening):
        if message.role not in _OWN and message.role not in roles:
            raise RoleForbidden(f"{field}[{place}]", message.role.value, roles)
