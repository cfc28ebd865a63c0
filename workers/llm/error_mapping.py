"""From what an endpoint or the way to it did wrong to one leaf of `LLMError`.

Reads every shape of error body; knows neither requests nor streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import aiohttp

from conversations.mending import mended
from workers.errors import (
    CompletionRefused,
    ContextOverflow,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from workers.llm import vendor_words
from workers.llm.endpoint import Endpoint
from workers.llm.waits import retry_after_seconds, wait_in_words

_TEXT_CHARS = 300
"""Of a provider's own words in a message; the rest stands in `LLMError.body`."""
_MOST_DIGITS = 12
"""Of a number of tokens; more is none."""
_MISSING_OPTIONS = {
    "tools param requires --jinja": "start llama-server with --jinja",
    "--enable-auto-tool-choice": (
        "start vLLM with --enable-auto-tool-choice and --tool-call-parser"
    ),
}
"""What a server says that was started without an option, and the remedy."""
_SHARED_CONTEXT = "Context size has been exceeded."
"""llama.cpp ends all calls under way where its slots share a context that is full."""
_PASSING = {
    "Loading model": "wait until it has, or set the endpoint's when_unavailable: wait",
    _SHARED_CONTEXT: (
        "its slots share one context: set limits.in_flight lower, or start llama-server"
        " with -np and a larger --ctx-size"
    ),
}
"""What llama.cpp says while it cannot answer, and the remedy."""
_TEMPORARY = frozenset({408, 409, 425, 498, 499})
"""Of the 4xx; 498 is Groq's lack of capacity, 499 a call that the server gave up."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error answer, whatever its shape."""

    status: int
    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    prompt_tokens: int | None = None
    context_tokens: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: str = ""

    @property
    def rejects_max_tokens(self) -> bool:
        """Whether the endpoint wants `max_completion_tokens` instead."""
        named = self.param == "max_tokens" and self.code == "unsupported_parameter"
        return named or "max_completion_tokens" in self.message

    def rejected_field(self, names: Collection[str]) -> str | None:
        """Return which of the optional fields the endpoint does not know."""
        words = f"{self.code} {self.type} {self.message}"
        if self.status not in {400, 422} or not vendor_words.UNSUPPORTED.search(words):
            return None
        if self.param in names:
            return self.param
        named = [n for n in names if re.search(rf"\b{n}\b", self.message)]
        return named[0] if len(named) == 1 else None

    @property
    def asked_wait_seconds(self) -> float | None:
        """How long the endpoint asks to wait, in its headers or in its words."""
        told = retry_after_seconds(self.headers)
        if told is not None:
            return told
        found = vendor_words.WAIT.search(f"{self.message} {self.body}")
        return wait_in_words(found[1] or found[3], found[2] or "") if found else None

    @property
    def rejects_response_format(self) -> bool:
        """Whether the endpoint does not know the format that was asked for."""
        return self.status >= 400 and bool(
            vendor_words.FORMAT.search(self.message + self.param)
        )

    @property
    def rejects_order(self) -> bool:
        """Whether the model's template refuses who speaks after whom."""
        return self.status >= 400 and bool(vendor_words.ORDER.search(self.message))

    @property
    def rejects_model(self) -> bool:
        """Whether the endpoint has no such model; where that is no 404."""
        return self.status == 400 and bool(vendor_words.NO_MODEL.search(self.message))

    @property
    def rejects_pictures(self) -> bool:
        """Whether the model takes text alone."""
        return self.status >= 400 and bool(vendor_words.PICTURES.search(self.message))

    @property
    def rejects_calls(self) -> bool:
        """Whether it refuses a name or an id of a call in the history."""
        return self.status >= 400 and bool(vendor_words.CALLS.search(self.message))

    @property
    def rejects_reasoning(self) -> bool:
        """Whether the endpoint does not want reasoning given back."""
        return (
            self.status >= 400
            and bool(vendor_words.REASONING.search(self.message))
            and "must be passed back" not in self.message
        )


def read_failure(
    status: int, text: str, *, headers: Mapping[str, str] | None = None
) -> Failure:
    """Read an error body: nested, flat, a text, HTML or nothing."""
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    return failure_of(payload, status=status, headers=headers, body=text)


def failure_of(
    payload: object,
    *,
    status: int,
    headers: Mapping[str, str] | None = None,
    body: str = "",
) -> Failure:
    """Read an error that is parsed already."""
    if isinstance(payload, list) and len(payload) == 1:
        [payload] = payload  # Gemini
    detail = payload.get("error", payload) if isinstance(payload, dict) else None
    if isinstance(detail, str):
        detail = {"message": detail}
    if not isinstance(detail, dict):
        detail = {"message": "" if payload is None else str(payload)}
        if payload is None and not body.lstrip("\ufeff \t\r\n").startswith("<"):
            detail["message"] = body
    return Failure(
        status=status,
        message=" ".join(_message(detail).split()),
        code=_text(detail, "code"),
        type=_text(detail, "type"),
        param=_text(detail, "param"),
        prompt_tokens=_count(detail, "n_prompt_tokens")
        or _number(vendor_words.SENT, detail),
        context_tokens=_count(detail, "n_ctx") or _number(vendor_words.LIMITS, detail),
        headers=headers or {},
        body=body,
    )


def has_failed(payload: Mapping[str, object]) -> bool:
    """Whether an answer with status 200 carries an error."""
    return bool(payload.get("error")) or payload.get("object") == "error"


def failure_in(payload: Mapping[str, object], *, body: str) -> Failure:
    """Return the error that an answer with status 200 carries."""
    failure = failure_of(payload, status=0, body=body)
    digits = failure.code if failure.code.isdecimal() else ""
    status = int(digits) if len(digits) == 3 else 502
    return failure_of(payload, status=status, body=body)


def error_from(failure: Failure, *, endpoint: Endpoint, model: str) -> LLMError:
    """Return the leaf that says what happened, in one sentence with the remedy."""
    where = endpoint.base_url
    said = _said(endpoint.scrub(failure.message))
    body = endpoint.scrub(failure.body)
    words = f"{failure.code} {failure.type} {failure.message}"
    status = failure.status
    error: LLMError
    if _is_overflow(failure, words):
        error = ContextOverflow(
            f"the prompt does not fit the context of model {model!r} at {where}{said};"
            " shorten it or raise the endpoint's context length",
            prompt_tokens=failure.prompt_tokens,
            context_tokens=failure.context_tokens,
        )
    elif status == 402 or vendor_words.NO_CREDIT.search(words):
        error = QuotaExhausted(
            f"the account at {where} has no credit left{said}; add credit or set"
            " another OPENAI_API_KEY"
        )
    elif status == 429:
        error = RateLimited(
            f"{where} asks to wait (HTTP 429){said}; send fewer requests at once",
            retry_after_seconds=failure.asked_wait_seconds,
        )
    elif vendor_words.FILTERED.search(words):
        error = CompletionRefused(
            f"a content filter at {where} refused the prompt{said}; change the prompt"
        )
    else:
        error = _by_status(failure, endpoint, model, said)
    error.endpoint, error.status, error.body = where, status, body[:2048]
    return error


def _is_overflow(failure: Failure, words: str) -> bool:
    """Whether the prompt is too long; a 429 says so by its code, not in its words."""
    if failure.status == 429:
        return failure.code == "context_length_exceeded"
    if failure.status == 500 and failure.message == _SHARED_CONTEXT:
        return False
    return bool(vendor_words.OVERFLOW.search(words))


def _by_status(failure: Failure, endpoint: Endpoint, model: str, said: str) -> LLMError:
    where, status = endpoint.base_url, failure.status
    if status in {401, 403}:
        return RequestRejected(
            f"{where} refused the API key (HTTP {status}){said}; set OPENAI_API_KEY"
        )
    if status == 404 or failure.rejects_model:
        return RequestRejected(_not_found(failure, endpoint, model, said))
    if 300 <= status < 400:
        return RequestRejected(
            f"{where} redirects (HTTP {status}), which is not followed;"
            " set OPENAI_BASE_URL to the final address"
        )
    if _wrote_badly(failure):
        return MalformedCompletion(
            f"model {model!r} at {where} wrote a tool call or an answer that the"
            " endpoint could not parse; ask again"
        )
    if _will_not_pass(failure):
        return RequestRejected(
            f"{where} rejected the request for model {model!r} (HTTP {status}){said};"
            f" {_remedy(failure)}"
        )
    remedies = (r for words, r in _PASSING.items() if words in failure.message)
    remedy = next(remedies, "try again or check its log")
    return LLMUnavailable(
        f"{where} failed with HTTP {status}{said}; {remedy}",
        retry_after_seconds=failure.asked_wait_seconds,
    )


def _wrote_badly(failure: Failure) -> bool:
    """Whether the endpoint could not parse what the model wrote."""
    is_told = vendor_words.UNPARSED.search(failure.message)
    return bool(is_told) or failure.code == "tool_use_failed"  # Groq's


def _will_not_pass(failure: Failure) -> bool:
    """Whether the same request is refused again; llama.cpp says so with a 500 too."""
    if 400 <= failure.status < 500:
        return failure.status not in _TEMPORARY
    return (
        failure.rejects_pictures
        or failure.rejects_order
        or _missing_option(failure) is not None
    )


def _missing_option(failure: Failure) -> str | None:
    found = (r for words, r in _MISSING_OPTIONS.items() if words in failure.message)
    return next(found, None)


def _remedy(failure: Failure) -> str:
    if (option := _missing_option(failure)) is not None:
        return option
    if failure.rejects_pictures:
        return "send no images, or use a model that takes them"
    if failure.rejects_order:
        return "set the endpoint's message_order to auto, or use another chat template"
    if failure.status == 407:
        return "give the proxy's login in `proxy` or in the proxy variables"
    if failure.status in {405, 410}:
        return "set OPENAI_BASE_URL to an address that ends in /v1"
    return "check the agent's parameters and tools"


def _not_found(failure: Failure, endpoint: Endpoint, model: str, said: str) -> str:
    words = f"{failure.code} {failure.param} {failure.message}".lower()
    if not ("model" in words or failure.rejects_model):
        return (
            f"{endpoint.base_url}/chat/completions does not exist (HTTP 404){said};"
            " set OPENAI_BASE_URL to an address that ends in /v1"
        )
    pull = ""
    if endpoint.looks_like_ollama or "pull" in failure.message:
        pull = f"`ollama pull {model}` or "
    return f"{endpoint.base_url} has no model {model!r}; {pull}set llm.model"


def bare(exc: Exception, *, endpoint: Endpoint) -> Exception:
    """Return an error without its frames, and without the request that it carries.

    So are the errors that it came from; frames hold what was sent and what came.
    """
    if isinstance(exc, aiohttp.ClientResponseError):
        said = f"{type(exc).__name__}: {exc.status} {exc.message}"
        return aiohttp.ClientError(endpoint.scrub(said))
    link: BaseException | None = exc
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return exc


def _said(message: str) -> str:
    return f": {message[:_TEXT_CHARS].rstrip('. ')}" if message else ""


def _text(detail: Mapping[str, object], name: str) -> str:
    value = detail.get(name)
    return "" if value is None else mended(str(value))  # an error is stored


def _message(detail: Mapping[str, object]) -> str:
    """Return the words, under whichever name they stand."""
    for name in ("message", "msg", "detail", "error_description", "errors"):
        if text := _text(detail, name):
            return text
    return ""


def _number(pattern: re.Pattern[str], detail: Mapping[str, object]) -> int | None:
    found = pattern.search(_message(detail))
    digits = next(group for group in found.groups() if group) if found else ""
    return int(digits) if 0 < len(digits) <= _MOST_DIGITS else None


def _count(detail: Mapping[str, object], name: str) -> int | None:
    value = detail.get(name)
    return value if isinstance(value, int) else None
