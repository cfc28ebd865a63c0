"""What scripts of the double are written in: replies, faults, and files of them."""

from __future__ import annotations

import runpy
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import yaml
from pydantic import Field, ValidationError, model_validator

from conversations.json_value import JsonObject
from orchestrator.settings_problems import describe
from workers.llm.reply import Reply, Scripted, reply_fields

_STREAM = {"content-type": "text/event-stream"}
_HALF_EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"hal'

FAULTS: Final[dict[str, dict[str, Any]]] = {
    "rate_limited": {"status": 429, "headers": {"retry-after": "1"}},
    "rate_limited_silently": {"status": 429},
    "server_error": {"status": 500},
    "unavailable": {"status": 503},
    "refuse": {"refuse": True},
    "hang": {"hang": True},
    "drip": {"text": "one two three four five", "drip_seconds": 0.5},
    "cut": {"text": "one two three", "cut_after": 2},
    "truncated_json": {"body": '{"choices": [{"message": {"content": "hal'},
    "invalid_events": {"body": "data: {nope\n\n", "headers": _STREAM},
    "truncated_event": {"body": _HALF_EVENT, "headers": _STREAM},
    "wrong_content_type": {"body": "<html/>", "headers": {"content-type": "text/html"}},
    "empty_body": {"body": ""},
    "empty_answer": {"text": ""},
    "huge_body": {"text": "huge", "padding_bytes": 64 * 1024 * 1024},
    "redirect": {"status": 307, "headers": {"location": "http://127.0.0.1:9/v1"}},
    "error_in_200": {"body": '{"error": {"message": "scripted error", "code": 500}}'},
    "no_credit": {
        "status": 429,
        "body": '{"error": {"code": "insufficient_quota", "message": "no credit"}}',
    },
    "context_overflow": {
        "status": 400,
        "body": '{"error": {"code": "context_length_exceeded", "message": "long"}}',
    },
    "bad_arguments": {"tool_calls": [{"name": "unknown", "arguments": "{"}]},
}
"""Name → the fields of a reply that goes wrong in this way."""


class HttpReply(Reply):
    """A reply and what goes wrong on its way."""

    fault: str | None = None
    """One of `FAULTS`, for the fields that are not given."""

    status: int = Field(default=200, ge=200, le=599)
    """HTTP status; other than 200 without `body`: an error of OpenAI's shape."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Added to the response, `content-type` among them."""
    body: str | None = None
    """Sent as it is instead of a completion: HTML, half a document, broken events."""
    delay_seconds: float = Field(default=0.0, ge=0)
    """Before the headers."""
    hang: bool = False
    """Never send headers."""
    refuse: bool = False
    """Close the connection without a byte."""
    padding_bytes: int = Field(default=0, ge=0)
    """So many spaces before the body."""
    drip_seconds: float = Field(default=0.0, ge=0)
    """Before each piece of the body."""
    cut_after: int | None = Field(default=None, ge=0)
    """Drop the connection after so many pieces of the body."""

    @model_validator(mode="before")
    @classmethod
    def _with_fault(cls, given: object) -> object:
        fault = given.get("fault") if isinstance(given, dict) else None
        if not isinstance(given, dict) or fault is None:
            return given
        if fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}")
        return {**FAULTS[fault], **given}


Answer = Callable[[JsonObject], Scripted | Awaitable[Scripted]]
Script = Iterable[Scripted] | Answer
"""Replies in order, or a function of the request's body, plain or async."""


class InvalidScript(ValueError):
    """A file of replies cannot be used."""


def http_reply(scripted: Scripted) -> HttpReply:
    """Return a reply that was written in short."""
    if isinstance(scripted, HttpReply):
        return scripted
    return HttpReply.model_validate(reply_fields(scripted))


def read_script(path: Path) -> Script:
    """Read replies: a list in YAML or JSON, or what a Python file calls `script`.

    An entry is a text or a reply's fields. A Python file, which is run, may hold a
    function of the request's body instead.

    Raises:
        InvalidScript: it cannot be read or holds something else; says what.
    """
    if path.suffix == ".py":
        script = _run(path)
        if callable(script):
            return cast("Script", script)
        return _read_replies(path, script)
    return _read_replies(path, _load(path))


def _load(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else type(exc).__name__
        if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark is not None:
            reason = f"line {exc.problem_mark.line + 1}: {exc.problem}"
        raise InvalidScript(
            f"{path} cannot be read ({reason}); name a YAML or JSON file of replies"
        ) from None


def _run(path: Path) -> object:
    try:
        return runpy.run_path(str(path))["script"]
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
        if isinstance(exc, KeyError):
            reason = "it sets no `script`"
        raise InvalidScript(
            f"{path} cannot be run ({reason}); set `script` to a list of replies or to"
            " a function of the request's body"
        ) from exc


def _read_replies(path: Path, replies: object) -> list[HttpReply]:
    if not isinstance(replies, list | tuple):
        raise InvalidScript(
            f"{path} holds {type(replies).__name__} instead of a list of replies;"
            " write each reply as a list entry"
        )
    return [
        read_reply(reply, named=f"{path}: reply {number}")
        for number, reply in enumerate(replies)
    ]


def read_reply(reply: Scripted, *, named: str = "the reply") -> HttpReply:
    """Return a reply that was written in short.

    Raises:
        InvalidScript: it cannot be used; says what of it.
    """
    try:
        return http_reply(reply)
    except (TypeError, ValueError) as exc:
        reason = str(exc)
        if isinstance(exc, ValidationError):
            reason = "; ".join(describe(HttpReply, exc))
        raise InvalidScript(
            f"{named} cannot be used ({reason}); write a text, or a mapping of"
            f" {', '.join(HttpReply.model_fields)}"
        ) from None
