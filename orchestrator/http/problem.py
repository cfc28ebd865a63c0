"""What an error looks like to a client: one table, two shapes.

The native API answers `application/problem+json`, paths below `/v1` answer in OpenAI's
shape. A text never holds a value that was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from conversations import errors as talk
from orchestrator import errors as room
from orchestrator.plain_text import one_line
from orchestrator.request import WORDS

RETRY_AFTER = {"Retry-After": "1"}
OPENAI_PREFIX = "/v1"


class Problem(Exception):
    """A request that is refused, with its HTTP status and stable code."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})
        self.facts = facts
        super().__init__(detail)


class ProblemBody(BaseModel):
    """An error of the native API (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")

    type: str = "about:blank"
    """Always `about:blank`; `code` tells errors apart."""
    title: str
    """The HTTP status in words."""
    status: int
    """The HTTP status."""
    code: str
    """Stable, for programs."""
    detail: str
    """One sentence with the remedy, for people."""
    field: str | None = None
    """What of the request it is about."""


class OpenAIError(BaseModel):
    """What `error` holds below `/v1`."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIErrorBody(BaseModel):
    """An error below `/v1`, in OpenAI's shape."""

    error: OpenAIError = Field()


_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    # The first that fits counts: leaves before families.
    (room.PayloadTooLarge, 413, "payload_too_large"),
    (room.InvalidInput, 422, "invalid_input"),
    (room.AgentNotFound, 404, "agent_not_found"),
    (room.TaskNotFound, 404, "task_not_found"),
    (room.IdempotencyConflict, 422, "idempotency_conflict"),
    (room.InvalidTransition, 409, "invalid_transition"),
    (room.ServiceDisabled, 503, "service_disabled"),
    (room.StoreFull, 503, "store_full"),
    (room.StoreReadOnly, 503, "store_read_only"),
    (room.StoreUnfit, 503, "store_unfit"),
    (room.StoreUnavailable, 503, "store_unavailable"),
    (room.QueueUnavailable, 503, "queue_unavailable"),
    (room.UnreadableRecord, 503, "unreadable_record"),
    (room.WaitTimeout, 504, "wait_timeout"),
    (room.OrchestratorError, 500, "internal_error"),
    (talk.ConversationNotFound, 404, "conversation_not_found"),
    (talk.ConversationBusy, 409, "conversation_busy"),
    (talk.ConversationConflict, 409, "conversation_conflict"),
    (talk.RoleForbidden, 403, "role_forbidden"),
    (talk.ConversationStoreUnavailable, 503, "store_unavailable"),
    (talk.RedactionFailed, 503, "redaction_failed"),
    (talk.ConversationError, 422, "invalid_input"),
)
_FACTS = ("size", "limit", "nearest", "task_id")


def problem_of(error: Exception) -> Problem:
    """Return what an error of the rooms is to a client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _of_framework(error)
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            facts = {name: getattr(error, name, None) for name in _FACTS}
            return Problem(
                status,
                code,
                str(error),
                field=getattr(error, "field", None),
                headers=RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else {},
                **{name: value for name, value in facts.items() if value},
            )
    return Problem(500, "internal_error", "something went wrong; the log says more")


_MOST_OF_A_NAME = 200
"""Characters of a place in a body; its names are whatever was sent."""
_NO_JSON = "the body is no JSON that can be read"


def _of_validation(error: RequestValidationError) -> Problem:
    findings = error.errors()
    if findings[0]["type"] == "json_invalid":
        return Problem(422, "invalid_input", _NO_JSON)
    # Of a union's members, the one that came furthest was meant.
    same = [each for each in findings if each["loc"][:2] == findings[0]["loc"][:2]]
    first = max(same, key=lambda each: len(_place(each, error.body)))
    if first["loc"] == ("body",) and first.get("input") is error.body:
        return Problem(422, "invalid_input", _no_object(first.get("input")))
    field = one_line(".".join(_place(first, error.body)), limit=_MOST_OF_A_NAME)
    reason = str(first["msg"]).removeprefix("Value error, ")
    reason = WORDS.get(first["type"], reason)
    told = f"{reason} (got {type(first.get('input')).__name__})"
    if first["type"] == "extra_forbidden":
        told = "not a known field"
    where = f"{field}: " if field else ""
    return Problem(422, "invalid_input", f"{where}{told}", field=field or None)


def _no_object(body: object) -> str:
    """Say why a body is no request at all, and what would be one."""
    if body is None:
        return "the body is missing; send a JSON object"
    if isinstance(body, bytes):
        return (
            "the body was not read as JSON; send the header"
            " Content-Type: application/json"
        )
    return f"the body must be a JSON object (got {type(body).__name__})"


def _place(finding: Mapping[str, Any], body: object) -> list[str]:
    """Return the names of a finding that the request knows: no member of a union."""
    source, *names = finding["loc"]
    if source != "body":
        return [str(name) for name in names]
    place: list[str] = []
    value: Any = body
    for name in names:
        is_index = isinstance(value, list) and isinstance(name, int)
        if is_index or (isinstance(value, dict) and name in value):
            value = value[name]
        elif finding["type"] != "missing" or name != names[-1]:
            continue
        place.append(str(name))
    return place


_FRAMEWORK = {
    404: (
        "not_found",
        "there is nothing at this path; GET /openapi.json lists what there is",
    ),
    405: ("method_not_allowed", "this path does not take the method"),
}


def _of_framework(error: HTTPException) -> Problem:
    # FastAPI wraps whatever ends the reading of a body.
    if isinstance(error.__cause__, Problem):
        return error.__cause__
    if isinstance(error.__cause__, RecursionError | ValueError):
        return Problem(422, "invalid_input", _NO_JSON)
    code, detail = _FRAMEWORK.get(
        error.status_code,
        (HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"), error.detail),
    )
    return Problem(error.status_code, code, detail, headers=error.headers)


def is_openai(path: str) -> bool:
    """Tell whether a path speaks OpenAI's shapes."""
    return path == OPENAI_PREFIX or path.startswith(f"{OPENAI_PREFIX}/")


def response_of(problem: Problem, path: str) -> JSONResponse:
    """Return the answer for a problem, in the path's shape."""
    if is_openai(path):
        return openai_response(problem)
    body = ProblemBody(
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        field=problem.field,
        **problem.facts,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error"}
_OPENAI_CODES = {"agent_not_found": ("model_not_found", "model")}
_OPENAI_STATUS = {422: 400}
"""OpenAI answers 400 where the native API answers 422."""
_SERVER_ERROR = 500
_TOO_MANY = 429


def openai_error(problem: Problem) -> dict[str, Any]:
    """Return the body of a problem in OpenAI's shape."""
    kind = _OPENAI_TYPES.get(problem.status, "invalid_request_error")
    if problem.status == _TOO_MANY:
        kind = "rate_limit_error"
    elif problem.status >= _SERVER_ERROR:
        kind = "server_error"
    code, param = _OPENAI_CODES.get(problem.code, (problem.code, problem.field))
    param = "model" if param == "agent" else param
    error = OpenAIError(message=problem.detail, type=kind, param=param, code=code)
    return OpenAIErrorBody(error=error).model_dump()


def openai_response(problem: Problem) -> JSONResponse:
    """Return the answer for a problem below `/v1`."""
    return JSONResponse(
        openai_error(problem),
        status_code=_OPENAI_STATUS.get(problem.status, problem.status),
        headers=problem.headers,
    )


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Answer any error: the exception handler of the application."""
    return response_of(problem_of(error), request.url.path)
