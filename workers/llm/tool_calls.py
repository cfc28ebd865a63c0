"""Tool calls as servers really send them: in fragments, twice numbered, without ids.

Every call comes out with an id of its own and with parsed arguments; what could not be
parsed is told by call id and never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from pydantic import JsonValue

from conversations.json_value import JsonObject, check_json
from conversations.mending import mended
from conversations.message import ToolCall
from conversations.trusted import trusted
from workers.errors import MalformedCompletion

_MAX_NAME = 256
_LONGEST_INDEX = 10
_MAX_ARGUMENT_CHARS = 1024 * 1024
"""Longer ones would only fill the journal; the model is told to write less."""


@dataclass(slots=True)
class _Slot:
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def is_whole(self) -> bool:
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


class ToolCallAccumulator:
    """Puts the deltas of one answer's tool calls together."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._by_index: dict[object, _Slot] = {}

    def feed(self, deltas: Sequence[object]) -> None:
        """Take the `tool_calls` of one delta."""
        for position, delta in enumerate(deltas):
            if isinstance(delta, dict):
                self._feed_one(delta, position)

    def _feed_one(self, delta: Mapping[str, object], position: int) -> None:
        function = delta.get("function")
        if not isinstance(function, dict):
            function = delta  # some servers leave the level out
        call_id, name = _text(delta.get("id")), _text(function.get("name"))
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments)
        slot = self._slot(delta.get("index"), position, call_id, name, arguments)
        slot.id = slot.id or call_id
        slot.name = slot.name or name
        slot.pieces.append(arguments)

    def _slot(
        self, index: object, position: int, call_id: str, name: str, arguments: str
    ) -> _Slot:
        """Return the slot that a delta continues, or a new one.

        Ollama numbers every parallel call 0, Gemini numbers none: another id, or a
        whole object after a whole object, begins another call.
        """
        if isinstance(index, str) and len(index) < _LONGEST_INDEX and index.isdecimal():
            index = int(index)
        if isinstance(index, int | str):
            slot = self._by_index.get(index)
            is_new = slot is None or bool(call_id and slot.id not in {"", call_id})
        else:
            slot = self._slots[-1] if self._slots else None
            is_new = slot is None or bool(
                (call_id and call_id != slot.id)
                or (name and (position or slot.name not in {"", name}))
            )
        if slot is not None and name and arguments.startswith("{"):
            is_new = is_new or slot.is_whole()
        if slot is None or is_new:
            slot = _Slot()
            self._slots.append(slot)
            if isinstance(index, int | str):
                self._by_index[index] = slot
        return slot

    def finish(self) -> tuple[tuple[ToolCall, ...], dict[str, str]]:
        """Return the calls, and by call id what is wrong with their arguments.

        Raises:
            MalformedCompletion: a call names no tool.
        """
        calls: list[ToolCall] = []
        invalid: dict[str, str] = {}
        taken: set[str] = set()
        for slot in self._slots:
            call_id = slot.id
            if not 0 < len(call_id) <= _MAX_NAME or call_id in taken:
                call_id = f"call_{uuid4().hex}"
            taken.add(call_id)
            if not 0 < len(slot.name) <= _MAX_NAME:
                raise MalformedCompletion(
                    "the model wrote a tool call whose tool name has"
                    f" {len(slot.name)} characters; ask again"
                )
            arguments, problem = parse_arguments(slot.arguments)
            if problem:
                invalid[call_id] = problem
            call = trusted(ToolCall, id=call_id, name=slot.name, arguments=arguments)
            calls.append(call)
        return tuple(calls), invalid


def parse_arguments(text: str) -> tuple[JsonObject, str]:
    """Return the arguments that a model wrote, or `{}` and what is wrong with them."""
    if len(text) > _MAX_ARGUMENT_CHARS:
        return {}, (
            f"the arguments have {len(text)} characters, more than the limit of"
            f" {_MAX_ARGUMENT_CHARS}; write less"
        )
    try:
        value = check_json(_ARGUMENTS.decode(text.strip() or "{}"))
    except RecursionError:
        return {}, "the arguments are nested too deep; flatten them"
    except ValueError as exc:
        return {}, f"the arguments are not valid JSON ({len(text)} characters): {exc}"
    if not isinstance(value, dict):
        return {}, (
            f"the arguments must be a JSON object, not {type(value).__name__};"
            " send the parameters by name"
        )
    return value, ""


def _distinct(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object names a key twice")
    return value


def _no_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is no JSON number")


_ARGUMENTS = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)


def _text(value: object) -> str:
    """Text that can be stored; anything else counts as absent."""
    return mended(value) if isinstance(value, str) else ""
