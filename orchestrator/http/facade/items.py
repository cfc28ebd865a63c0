"""OpenAI's items to messages: what a client sends. Pure functions.

Tools that a worker runs appear as `mcp_call` items, calls that the client makes as
`function_call` items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue, ValidationError

from conversations.client_calls import CLIENT_FACT, client_calls_of
from conversations.errors import InvalidHistory
from conversations.history import OpenCalls, check_history, follow
from conversations.json_value import NotStorable, check_json, check_no_nul
from conversations.message import Message, Role, ToolCall
from orchestrator.http.problem import Problem

Item = Mapping[str, Any]
_TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}


def refuse(param: str, message: str, *, code: str | None = None) -> Problem:
    """Return a refusal of one field."""
    return Problem(400, code or "invalid_value", message, field=param)


def refuse_nul(value: object, *, param: str) -> None:
    """Refuse a value that holds a NUL anywhere.

    Raises:
        Problem: names the place of the first one.
    """
    try:
        check_no_nul(value, path=param)
    except NotStorable as exc:
        place = exc.path.removeprefix("a name in ")
        raise refuse(place, f"{exc.path}: {exc.reason}") from None


def messages_of(given: object, *, param: str = "input") -> tuple[Message, ...]:
    """Return the messages that a text or a list of items stands for.

    Raises:
        Problem: an item cannot be taken; names it.
    """
    if isinstance(given, str):
        refuse_nul(given, param=param)
        return (_message(Role.USER, given, param=param),)
    if not isinstance(given, Sequence) or not given:
        raise refuse(param, f"{param} must be a text or a list of items")
    reader = _Reader()
    for index, item in enumerate(given):
        reader.take(item, param=f"{param}[{index}]")
    return reader.finish()


def check_turn(messages: Sequence[Message], *, continues: bool) -> None:
    """Check that messages may begin a turn.

    Raises:
        Problem: a call has no output, or an output has no call.
    """
    first = next(
        (n for n, m in enumerate(messages) if m.role is not Role.TOOL), len(messages)
    )
    if first and not continues:
        call_id = messages[0].tool_call_id
        raise refuse(
            "input",
            f"No tool call found for function call output with call_id {call_id}.",
        )
    _check_calls(messages[first:])
    try:
        check_history(messages[first:])
    except InvalidHistory as exc:
        raise refuse("input", str(exc)) from None


def _check_calls(messages: Iterable[Message]) -> None:
    open_calls: OpenCalls = frozenset()
    for message in messages:
        if message.role is not Role.TOOL and open_calls:
            break
        open_calls = follow(open_calls, message)
    if open_calls:
        raise refuse(
            "input", f"No tool output found for function call {min(open_calls)}."
        )


class _Reader:
    """Groups calls with the assistant message that they belong to."""

    def __init__(self) -> None:
        self._done: list[Message] = []
        self._open: Message | None = None
        self._results: list[Message] = []

    def take(self, item: object, *, param: str) -> None:
        if not isinstance(item, Mapping):
            raise refuse(param, f"{param} must be an object")
        kind = item.get("type") or "message"
        if kind == "message":
            self._take_message(item, param)
        elif kind == "function_call":
            self._add_call(_call(item, param), param, is_client=True)
        elif kind == "function_call_output":
            self._flush()
            self._done.append(_result(item, "call_id", param, is_client=True))
        elif kind == "mcp_call":
            call = _call(item, param, id_field="id")
            self._add_call(call, param, is_client=False)
            self._results.append(_result(item, "id", param, is_client=False))
        elif kind != "reasoning":
            raise refuse(
                f"{param}.type",
                f"items of type {str(kind)[:64]!r} are not taken; send messages,"
                " function calls and their outputs",
            )

    def finish(self) -> tuple[Message, ...]:
        self._flush()
        if not self._done:
            raise refuse("input", "input holds no message")
        return tuple(self._done)

    def _take_message(self, item: Item, param: str) -> None:
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            raise refuse(f"{param}.role", f"must be one of: {', '.join(_ROLES)}")
        text, images = _content_of(item.get("content"), f"{param}.content")
        self._flush()
        if role is Role.ASSISTANT and not text.strip():
            return
        message = _message(role, text, param=f"{param}.content", images=images)
        if role is Role.ASSISTANT:
            self._open = message
        else:
            self._done.append(message)

    def _add_call(self, call: ToolCall, param: str, *, is_client: bool) -> None:
        open_message = self._open or Message.model_construct(
            role=Role.ASSISTANT, content="", tool_calls=(), metadata={}
        )
        noted = set(client_calls_of(open_message)) | ({call.id} if is_client else set())
        facts: dict[str, JsonValue] = {CLIENT_FACT: [*sorted(noted)]} if noted else {}
        try:
            self._open = Message(
                role=Role.ASSISTANT,
                content=open_message.content,
                tool_calls=(*open_message.tool_calls, call),
                metadata=facts,
            )
        except ValidationError as exc:
            raise _invalid(exc, param) from None

    def _flush(self) -> None:
        if self._open is not None:
            self._done.append(self._open)
        self._done += self._results
        self._open, self._results = None, []


def text_of(content: object, *, param: str) -> str:
    """Return the text of a message's content.

    Raises:
        Problem: it holds what is no text.
    """
    text, images = _content_of(content, param)
    if images:
        raise _not_taken(param)
    return text


def _content_of(content: object, param: str) -> tuple[str, list[JsonValue]]:
    """Return a content's text and its pictures.

    Raises:
        Problem: it holds something else.
    """
    if isinstance(content, str):
        refuse_nul(content, param=param)
        return content, []
    if not isinstance(content, Sequence):
        raise refuse(param, f"{param} must be a text or a list of parts")
    texts: list[str] = []
    images: list[JsonValue] = []
    for index, part in enumerate(content):
        place = f"{param}[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, Mapping) and kind in _TEXT_PARTS:
            text = part.get("refusal" if kind == "refusal" else "text")
            if not isinstance(text, str):
                raise refuse(f"{place}.text", "must be a text")
            refuse_nul(text, param=f"{place}.text")
            texts.append(text)
        elif isinstance(part, Mapping) and kind in ("input_image", "image_url"):
            images.append(_image(part, place))
        else:
            raise _not_taken(place)
    return "".join(texts), images


def _image(part: Item, param: str) -> JsonValue:
    """Return a picture in the form of the Responses API or of chat completions."""
    given = part.get("image_url")
    fields = given if isinstance(given, Mapping) else {**part, "url": given}
    url, detail = fields.get("url"), fields.get("detail") or "auto"
    if not isinstance(url, str):
        raise refuse(
            f"{param}.image_url", "must be an address; files are not kept here"
        )
    return {"url": url, "detail": detail}


def _not_taken(param: str) -> Problem:
    return refuse(
        param,
        "only text is taken here, and images in messages of users; audio and files are"
        " not",
        code="unsupported_content",
    )


def _message(
    role: Role, text: str, *, param: str, images: Sequence[JsonValue] = ()
) -> Message:
    try:
        return Message.model_validate(
            {"role": role, "content": text, "images": list(images)}
        )
    except ValidationError as exc:
        raise _invalid(exc, param) from None


def _call(item: Item, param: str, *, id_field: str = "call_id") -> ToolCall:
    arguments = item.get("arguments")
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else None
        check_json(parsed, path="arguments")
    except (ValueError, RecursionError, NotStorable):
        parsed = None
    if not isinstance(parsed, dict):
        raise refuse(f"{param}.arguments", "must be the JSON text of an object")
    refuse_nul(parsed, param=f"{param}.arguments")
    try:
        return ToolCall(
            id=item.get(id_field) or "", name=item.get("name") or "", arguments=parsed
        )
    except ValidationError as exc:
        raise _invalid(exc, param) from None


def _result(item: Item, id_field: str, param: str, *, is_client: bool) -> Message:
    output = item.get("output")
    if output is None:
        output = _told(item.get("error"))
    text = text_of(
        output if isinstance(output, list) else str(output), param=f"{param}.output"
    )
    facts: dict[str, JsonValue] = {CLIENT_FACT: True} if is_client else {}
    try:
        return Message(
            role=Role.TOOL,
            tool_call_id=item.get(id_field),
            content=text,
            metadata=facts,
        )
    except ValidationError as exc:
        raise _invalid(exc, param) from None


def _told(error: object) -> object:
    """Return the text of what went wrong with a call, in whichever form it comes."""
    if isinstance(error, Mapping):
        error = error.get("content") or error.get("message")
    return error or ""


def _invalid(exc: ValidationError, param: str) -> Problem:
    finding = exc.errors(include_url=False)[0]
    path = ".".join(str(part) for part in finding["loc"])
    reason = finding["msg"].removeprefix("Value error, ")
    return refuse(f"{param}.{path}".rstrip("."), f"{param}: {reason}")
