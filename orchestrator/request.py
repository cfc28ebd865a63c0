"""What a submit asks for, checked field by field before any I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)

from conversations.json_value import (
    Identifier,
    JsonObject,
    NotStorable,
    Text,
    check_json,
)
from conversations.message import Role
from orchestrator.budget_limits import TaskBudget
from orchestrator.duration import Seconds
from orchestrator.errors import InvalidInput
from orchestrator.journal import APPROVAL_PREFIX, Action, Decision, call_key
from orchestrator.schedule import Schedule
from orchestrator.settings_problems import did_you_mean
from orchestrator.task import (
    DEFAULT_PRIORITY,
    MOST_AFTER,
    RetryPolicy,
    Task,
    WhenBusy,
)
from orchestrator.trace_context import is_traceparent

FURTHEST_START = timedelta(days=3650)
"""Anything later is a slip."""


class SubmitOptions(TypedDict, total=False):
    """The keyword arguments of `submit`; `SubmitRequest` explains each."""

    parameters: dict[str, JsonValue]
    context: dict[str, JsonValue]
    conversation_id: str | None
    when_busy: WhenBusy
    tenant: str | None
    idempotency_key: str | None
    priority: int
    not_before: datetime | None
    after: Sequence[str]
    after_failure: Literal["fail", "run"]
    expires: float | str | None
    deadline: float | str | None
    soft_time_limit: float | str | None
    time_limit: float | str | None
    retry: RetryPolicy | None
    budget: TaskBudget | dict[str, JsonValue] | None
    cache_ttl: float | str | None
    tags: tuple[str, ...] | list[str]
    metadata: dict[str, JsonValue]
    webhook: str | None
    traceparent: str | None


Tag = Annotated[Text, Field(min_length=1, max_length=64)]
"""A word to filter by; each makes a listing of its own."""


class SubmitRequest(BaseModel):
    """One request to run an agent. Durations are seconds or text such as `5m`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    agent: Identifier
    """The agent's name."""
    input: JsonObject = Field(default_factory=dict)
    """What it works on."""
    parameters: JsonObject = Field(default_factory=dict)
    """How it works, over its own defaults."""
    context: JsonObject = Field(default_factory=dict)
    """Facts about the caller, for its tools."""
    conversation_id: Identifier | None = None
    """The conversation that it continues; created with its first turn."""
    when_busy: WhenBusy = "enqueue"
    """What to do when the conversation has an unfinished task."""
    tenant: Identifier | None = None
    """Whose task it is; None takes the settings' tenant."""
    idempotency_key: Text | None = Field(default=None, min_length=1, max_length=255)
    """A second submit with the same key and request returns the first task."""
    priority: int = Field(default=DEFAULT_PRIORITY, ge=0, le=9, strict=True)
    """0 to 9; 9 is most urgent."""
    not_before: datetime | None = None
    """Earliest start, with a time zone; within ten years."""
    after: tuple[Identifier, ...] = Field(default=(), max_length=MOST_AFTER)
    """Tasks that must end first; their answers stand in its input as `results`."""
    after_failure: Literal["fail", "run"] = "fail"
    """What it does when one of them ended without an answer."""
    expires: Seconds | None = None
    """Longest wait for the first claim, from acceptance or `not_before`."""
    deadline: Seconds | None = None
    """Longest life from acceptance to the end."""
    soft_time_limit: Seconds | None = None
    """Running time after which the agent must wrap up."""
    time_limit: Seconds | None = None
    """Running time after which the run is ended."""
    retry: RetryPolicy | None = None
    """Overrides the agent's retry policy."""
    budget: TaskBudget | None = None
    """What it may spend, within its agent's budget: `{"tokens": …, "cost": …}`."""
    cache_ttl: Seconds | None = None
    """Share the answer with equal requests for so long."""
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    """Words to filter by, at most 32 of 1 to 64 characters."""
    metadata: JsonObject = Field(default_factory=dict)
    """The submitter's facts; no agent sees them."""
    webhook: Text | None = Field(default=None, max_length=2048)
    """Where its end is told, below one of `webhooks.allowed`."""
    traceparent: Text | None = None
    """The W3C trace context that it belongs to; None takes the caller's, if any."""

    @field_validator("traceparent")
    @classmethod
    def _is_trace_context(cls, given: str | None) -> str | None:
        if given is not None and not is_traceparent(given):
            raise ValueError(
                f"not a W3C traceparent ({len(given)} characters); leave it out or"
                " pass 00-<32 hex digits>-<16 hex digits>-<2 hex digits>"
            )
        return given

    @field_validator("not_before", mode="before")
    @classmethod
    def _is_no_count(cls, given: object) -> object:
        """Refuse `20300131`, which would be read as seconds since 1970: at once."""
        if isinstance(given, str) and given.replace(".", "").isdigit():
            raise ValueError(
                f"digits alone ({len(given)}) are no instant; write it as"
                " 2030-01-31T08:00:00Z"
            )
        return given

    @field_validator("not_before")
    @classmethod
    def _within_reach(cls, instant: datetime | None) -> datetime | None:
        if instant is None:
            return None
        if instant.tzinfo is None:
            raise ValueError("must carry a time zone; add one, such as UTC")
        if instant - datetime.now(UTC) > FURTHEST_START:
            raise ValueError("lies more than ten years ahead; choose an earlier start")
        return instant


_validated: Final = SubmitRequest.__pydantic_validator__.validate_python

Then = SubmitRequest | Mapping[str, Any] | Sequence[SubmitRequest | Mapping[str, Any]]
"""What runs after many tasks: a request, or several, one after the other."""


class Defaults(BaseModel):
    """What a request takes where it says nothing."""

    model_config = ConfigDict(frozen=True)

    tenant: str = "default"
    soft_time_limit_seconds: float = 300.0
    time_limit_grace_seconds: float = 30.0
    max_input_bytes: int = 1024 * 1024
    max_message_bytes: int = 256 * 1024
    client_roles: tuple[Role, ...] = tuple(Role)
    webhooks_allowed: tuple[str, ...] = ()


PAYLOADS = ("input", "parameters", "context", "metadata")
"""The fields that hold a caller's own JSON."""


_FIELDS: Final = {
    "": SubmitRequest.model_fields,
    "retry": RetryPolicy.model_fields,
    "budget": TaskBudget.model_fields,
}
"""Names of what a caller may set, by where they stand."""


def parse_request(fields: Mapping[str, object]) -> SubmitRequest:
    """Check a request's fields.

    Raises:
        InvalidInput: the first field that cannot be taken.
    """
    try:
        request: SubmitRequest = _validated(
            fields if type(fields) is dict else dict(fields)
        )
    except (ValidationError, RecursionError) as exc:
        _check_payloads(fields)
        if isinstance(exc, RecursionError):
            raise
        raise invalid_input(exc) from None
    return request


def _check_payloads(fields: Mapping[str, object]) -> None:
    """Name the place in a payload that cannot be stored; pydantic knows its text only.

    Raises:
        InvalidInput: there is one.
    """
    for name in PAYLOADS:
        try:
            check_json(fields.get(name), path=name)
        except NotStorable as exc:
            raise InvalidInput(exc.path, exc.reason) from None
        except RecursionError:
            raise InvalidInput(name, "refers to itself; send plain JSON") from None


def parse_schedule(fields: Mapping[str, object]) -> Schedule:
    """Check a schedule's fields.

    Raises:
        InvalidInput: the first field that cannot be taken.
    """
    task = fields["task"]
    if isinstance(task, Task) and (task.idempotency_key or task.not_before):
        raise InvalidInput(
            "idempotency_key" if task.idempotency_key else "not_before",
            "a schedule submits many tasks; leave it out",
        )
    try:
        return Schedule.model_validate(dict(fields))
    except ValidationError as exc:
        raise invalid_input(exc) from None


def parse_requests(
    requests: Iterable[SubmitRequest | Mapping[str, Any]], *, name: str
) -> list[SubmitRequest]:
    """Check many requests.

    Raises:
        InvalidInput: names the first that cannot be taken by its index.
    """
    if isinstance(requests, str | Mapping) or not isinstance(requests, Iterable):
        raise InvalidInput(
            name, f"must be a list of requests (got {type(requests).__name__})"
        )
    parsed: list[SubmitRequest] = []
    for index, request in enumerate(requests):
        if not isinstance(request, SubmitRequest | Mapping):
            raise InvalidInput(
                f"{name}[{index}]",
                "must be a SubmitRequest or a mapping of its fields"
                f" (got {type(request).__name__})",
            )
        try:
            parsed.append(
                request
                if isinstance(request, SubmitRequest)
                else parse_request(request)
            )
        except InvalidInput as exc:
            raise exc.within(index, name=name) from None
    return parsed


def parse_then(then: Then) -> list[SubmitRequest]:
    """Check what is to run after other tasks.

    Raises:
        InvalidInput: names the first that cannot be taken by its index.
    """
    if isinstance(then, SubmitRequest | Mapping):
        return parse_requests([then], name="then")
    return parse_requests(then, name="then")


WORDS: Final = {"dict_type": "must be an object", "tuple_type": "must be a list"}
"""pydantic names Python's types; clients of other languages read this too."""
_TEXT_AS_INPUT: Final = '; write {"prompt": …} around a text'
_COUNTED: Final = re.compile(r"item(s?) after validation")
"""What pydantic counts of a text that we have checked before."""


def invalid_input(error: ValidationError) -> InvalidInput:
    """Say of a pydantic error what its first finding says, without the value."""
    finding = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in finding["loc"])
    reason = finding["msg"].removeprefix("Value error, ")
    if finding["type"] == "extra_forbidden":
        *within, name = map(str, finding["loc"])
        known = _FIELDS.get(".".join(within), ())
        reason = f"not a known field{did_you_mean(name, known) if known else ''}"
    elif finding["type"] != "value_error":
        given = finding["input"]
        size = f", {len(given)} long" if isinstance(given, (str, list, tuple)) else ""
        if isinstance(given, str):
            reason = _COUNTED.sub(r"character\1", reason)
        reason = WORDS.get(finding["type"], reason)
        remedy = _TEXT_AS_INPUT if field == "input" and isinstance(given, str) else ""
        reason = f"{reason} (got {type(given).__name__}{size}){remedy}"
    return InvalidInput(field, reason)


def parse_decision(call_id: str, action: str, *, output: object, note: str) -> Decision:
    """Check a decision on a call.

    Raises:
        InvalidInput: it cannot be taken.
    """
    if action not in tuple(Action):
        raise InvalidInput("decision", f"must be one of: {', '.join(Action)}")
    if action == Action.REFUSE and not call_id.startswith(APPROVAL_PREFIX):
        raise InvalidInput(
            "decision",
            "refuse is for calls that wait for approval; this one has begun, or is no"
            " call: decide done, run or fail",
        )
    if output is not None and action != Action.DONE:
        raise InvalidInput("output", "belongs to the decision done; leave it out")
    try:
        return Decision(
            key=call_key(call_id),
            action=Action(action),
            output=check_json(output, path="output"),
            note=note,
        )
    except NotStorable as exc:
        raise InvalidInput(exc.path, exc.reason) from None
    except ValidationError as exc:
        raise invalid_input(exc) from None
