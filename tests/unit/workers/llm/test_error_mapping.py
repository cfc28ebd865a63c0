"""Every shape of error body leads to one leaf, with the remedy and without secrets."""

from __future__ import annotations

import errno
import json
import ssl

import aiohttp
import pytest
from pydantic import SecretStr

from tests.unit.workers.llm.mapped_errors import KEY, REMOTE, mapped
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
from workers.llm.endpoint import Endpoint
from workers.llm.error_mapping import (
    error_from,
    failure_in,
    has_failed,
    read_failure,
)
from workers.llm.transport_errors import transport_error

OLLAMA = Endpoint(base_url="http://localhost:11434/v1", api_key=SecretStr(KEY))
OVERFLOWS = (
    "input length and `max_tokens` exceed context limit: 188000 + 20000 > 200000",
    "The input token count (1200000) exceeds the maximum number of tokens allowed",
    "Prompt contains 40000 tokens, too large for model with 32768 maximum context"
    " length",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097",
    "This model's maximum prompt length is 131072 but the request contains 537812",
    "Input is too long for requested model.",
    "Trying to keep the first 5000 tokens when context the overflows. However, the"
    " model is loaded with context length of only 4096 tokens",
    "The number of tokens to keep from the initial prompt is greater than the context"
    " length.",
    "Reached context length of 4096 tokens with this model",
    "The prompt (total length 5000) is too long to fit into the model",
    "The decoder prompt (length 9000) is longer than the maximum model length of 4096",
    "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    "Requested token count exceeds the model's maximum context length of 8192 tokens.",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be"
    " [1, 30720]",
    "Invalid request: Your request exceeded model token limit: 8192",
    "invalid params, context window exceeds limit",
    "prompt token count of 65000 exceeds the limit of 64000",
    "input is larger than the max context size. skipped",
    "the request exceeds the available context size, try increasing it",
)
NO_OVERFLOWS = (
    "max_tokens is too large: 90000. This model supports at most 4096 output tokens",
    "unknown field 'context'",
    "the tool's description is too long",
    "temperature must not exceed 2",
)


@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (302, RequestRejected),
        (400, RequestRejected),
        (401, RequestRejected),
        (402, QuotaExhausted),
        (403, RequestRejected),
        (404, RequestRejected),
        (408, LLMUnavailable),
        (413, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, LLMUnavailable),
        (502, LLMUnavailable),
        (503, LLMUnavailable),
        (504, LLMUnavailable),
        (529, LLMUnavailable),
    ],
)
def test_each_status_has_one_leaf(status: int, leaf: type[LLMError]):
    error = mapped(status)
    assert type(error) is leaf
    assert error.status == status
    assert error.endpoint == REMOTE.base_url


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "told so", "type": "t", "param": None, "code": None}},
        {"error": {"code": 400, "message": "told so", "type": "t"}},
        {"error": {"code": "400", "message": "told so"}},
        {"error": "told so"},
        {"object": "error", "message": "told so", "code": 400},
        "told so",
    ],
)
def test_every_shape_of_body_is_read(body: object):
    assert "told so" in str(mapped(400, body))


@pytest.mark.parametrize("body", ["", "<html><h1>502</h1></html>", "[]", "null", "3"])
def test_a_body_that_says_nothing_still_gives_a_sentence(body: str):
    error = mapped(502, body)
    assert "HTTP 502" in str(error)
    assert "<html>" not in str(error)
    assert error.body == body


def test_a_missing_model_names_the_pull_on_ollama():
    body = {"error": {"message": 'model "gpt-x" not found, try pulling it first'}}
    assert str(mapped(404, body, endpoint=OLLAMA)) == (
        "http://localhost:11434/v1 has no model 'gpt-x';"
        " `ollama pull gpt-x` or set llm.model"
    )


def test_a_missing_model_elsewhere_names_the_setting_alone():
    body = {"error": {"message": "no such model", "code": "model_not_found"}}
    assert str(mapped(404, body)).endswith("has no model 'gpt-x'; set llm.model")


def test_a_missing_path_is_no_missing_model():
    assert "ends in /v1" in str(mapped(404, "<html>Not Found</html>"))


def test_a_refused_key_names_the_variable():
    assert str(mapped(401)) == (
        "https://api.example.com/v1 refused the API key (HTTP 401); set OPENAI_API_KEY"
    )


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "x"},
        {
            "type": "invalid_request_error",
            "message": "litellm.ContextWindowExceededError",
        },
        {"message": "This model's maximum context length is 8192 tokens."},
        {"message": "the request exceeds the available context size"},
        {"message": "prompt is too long: 9 tokens"},
        *({"message": text} for text in OVERFLOWS),
    ],
)
def test_overflow_is_recognised_by_code_and_by_words(error: object):
    assert type(mapped(400, {"error": error})) is ContextOverflow


@pytest.mark.parametrize("text", NO_OVERFLOWS)
def test_other_words_about_tokens_and_contexts_are_no_overflow(text: str):
    assert type(mapped(400, {"error": {"message": text}})) is RequestRejected


def test_a_rate_limit_that_speaks_of_the_context_is_a_rate_limit():
    words = "Extra usage is required: prompt is too long for this plan's context"
    assert type(mapped(429, {"error": {"message": words}})) is RateLimited


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your"
            " messages resulted in 9001 tokens.",
            (9001, 8192),
        ),
        ("prompt is too long: 201234 tokens > 200000 maximum", (201234, 200000)),
        (
            "The input (9000 tokens) is longer than the model's context length"
            " (8192 tokens).",
            (9000, 8192),
        ),
        (
            "This model's maximum prompt length is 131072 but the request contains"
            " 537812 tokens.",
            (537812, 131072),
        ),
    ],
)
def test_overflow_s_numbers_are_read_from_words(text: str, numbers: tuple[int, int]):
    error = mapped(400, {"error": {"message": text}})
    assert isinstance(error, ContextOverflow)
    assert (error.prompt_tokens, error.context_tokens) == numbers


@pytest.mark.parametrize("status", [400, 429, 503])
@pytest.mark.parametrize(
    "words", ["maximum context length is %s tokens", "try again in %ss", "wait %s"]
)
def test_numbers_without_end_say_nothing(status: int, words: str):
    body = json.dumps({"error": {"message": words % ("9" * 5000)}})
    failure = read_failure(status, body, headers={"retry-after": "9" * 5000 + "s"})
    assert failure.context_tokens is None
    assert failure.asked_wait_seconds is None


def test_overflow_carries_both_numbers():
    detail = {
        "code": 400,
        "type": "exceed_context_size_error",
        "message": "too large",
        "n_prompt_tokens": 12019,
        "n_ctx": 2048,
    }
    error = mapped(400, {"error": detail})
    assert isinstance(error, ContextOverflow)
    assert (error.prompt_tokens, error.context_tokens) == (12019, 2048)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "insufficient_quota", "message": "You exceeded your current quota"},
        {"message": "Your credit balance is too low"},
        {  # LiteLLM passes the words of a vendor on, not its code
            "message": "litellm.RateLimitError: RateLimitError: OpenAIException - You"
            " exceeded your current quota, please check your plan and billing details."
            " For more information on this error, read the docs:"
            " https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "type": "throttling_error",
            "code": "429",
        },
        {"message": "Insufficient Balance"},
    ],
)
def test_spent_credit_is_not_a_rate_limit(error: object):
    assert type(mapped(429, {"error": error})) is QuotaExhausted


@pytest.mark.parametrize("status", [400, 422, 429])
@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
            "type": "budget_exceeded",
            "code": "422",
        },
        {"message": "ExceededBudget: Key over 1d budget. Spend=2, Limit=1"},
        {  # its routing's, of a provider or a deployment
            "message": "No deployments available - crossed budget: Exceeded budget for"
            " provider openai: 0.000735 >= 1e-12",
            "type": "None",
            "code": "429",
        },
    ],
)
def test_a_spent_budget_of_litellm_is_spent_credit(status: int, error: object):
    assert type(mapped(status, {"error": error})) is QuotaExhausted


def test_a_quota_of_gemini_is_a_rate_limit():
    words = (
        "You exceeded your current quota, please check your plan and billing details."
        " For more information on this error, head to:"
        " https://ai.google.dev/gemini-api/docs/rate-limits. * Quota exceeded for"
        " metric: generate_content_free_tier_requests, limit: 10 Please retry in 27.6s."
    )
    error = mapped(429, {"error": {"message": words, "status": "RESOURCE_EXHAUSTED"}})
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == 27.6


def test_a_per_minute_quota_is_a_rate_limit():
    body = {"error": {"message": "Quota exceeded for requests per minute"}}
    assert type(mapped(429, body)) is RateLimited


def test_a_prompt_filter_refuses():
    body = {"error": {"code": "content_filter", "message": "filtered"}}
    assert type(mapped(400, body)) is CompletionRefused


@pytest.mark.parametrize(
    "words",
    [
        "error parsing tool call: raw='{'",
        "The model produced output that does not match the expected peg-native format",
        "Failed to parse input at pos 12: <tool_call>",
    ],
)
def test_an_unparsable_answer_is_not_a_server_that_is_down(words: str):
    error = mapped(500, {"error": {"code": 500, "message": words, "type": "server"}})
    assert type(error) is MalformedCompletion


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (
            "image input is not supported - hint: if this is unexpected, you may need"
            " to provide the mmproj",
            "send no images, or use a model that takes them",
        ),
        ("tools param requires --jinja flag", "start llama-server with --jinja"),
        (
            "Jinja Exception: Conversation roles must alternate user/assistant/",
            "use another chat template",
        ),
    ],
)
def test_what_llama_cpp_refuses_for_good_with_a_500_is_no_server_that_is_down(
    words: str, remedy: str
):
    error = mapped(500, {"error": {"code": 500, "message": words}})
    assert type(error) is RequestRejected
    assert remedy in str(error)


@pytest.mark.parametrize(
    "words",
    [
        "model 'gpt-x' not found",
        "/chat/completions: Invalid model name passed in model=gpt-x.",
        "Server is pinned to 'tiny'; requested 'gpt-x'.",
    ],
)
def test_a_missing_model_that_is_refused_with_a_400_names_the_setting(words: str):
    error = mapped(400, {"error": {"code": 400, "message": words}})
    assert type(error) is RequestRejected
    assert str(error).endswith("has no model 'gpt-x'; set llm.model")


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (503, "Loading model", "set the endpoint's when_unavailable: wait"),
        (500, "Context size has been exceeded.", "set limits.in_flight lower"),
    ],
    ids=["it loads", "its slots share a context that is full"],
)
def test_a_llama_cpp_that_cannot_answer_now_is_asked_again(
    status: int, words: str, remedy: str
):
    error = mapped(status, {"error": {"code": status, "message": words}})
    assert type(error) is LLMUnavailable
    assert remedy in str(error)


def test_the_key_is_removed_from_what_the_provider_says():
    error = mapped(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    assert KEY not in str(error) + error.body + repr(error)
    assert "[secret]" in str(error)


def test_a_header_value_and_its_last_word_are_secret():
    endpoint = Endpoint(
        base_url="http://x/v1",
        headers={"Authorization": SecretStr("Basic dXNlcjpwYXNz")},
    )
    error = mapped(400, "got dXNlcjpwYXNz in Basic dXNlcjpwYXNz", endpoint=endpoint)
    assert "dXNlcjpwYXNz" not in str(error) + error.body + repr(endpoint)


def test_long_words_of_a_provider_are_cut():
    error = mapped(400, "x" * 100_000)
    assert len(str(error)) < 600
    assert len(error.body) == 2048


def test_a_validation_error_of_a_python_server_is_read():
    body = {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs not permitted"}]}
    assert "Extra inputs not permitted" in str(mapped(422, body))


@pytest.mark.parametrize(
    ("payload", "leaf"),
    [
        ({"error": {"message": "boom"}}, LLMUnavailable),
        ({"error": {"message": "slow down", "code": 429}}, RateLimited),
        ({"object": "error", "message": "bad", "code": 400}, RequestRejected),
        ({"error": "Server overloaded"}, LLMUnavailable),
    ],
)
def test_an_error_with_status_200_is_an_error(
    payload: dict[str, object], leaf: type[LLMError]
):
    assert has_failed(payload)
    failure = failure_in(payload, body="")
    assert type(error_from(failure, endpoint=REMOTE, model="m")) is leaf


@pytest.mark.parametrize(
    "payload", [{}, {"error": None}, {"object": "chat.completion"}]
)
def test_an_answer_without_an_error_is_none(payload: dict[str, object]):
    assert not has_failed(payload)


def test_a_name_that_does_not_resolve_names_the_address():
    gone = aiohttp.ClientConnectorDNSError(None, OSError("unknown"))  # type: ignore[arg-type]
    error = transport_error(gone, endpoint=REMOTE)
    assert type(error) is LLMUnavailable
    assert "does not resolve; set OPENAI_BASE_URL" in str(error)


def test_a_certificate_that_is_not_trusted_is_not_asked_again():
    error = transport_error(
        ssl.SSLCertVerificationError("self-signed"), endpoint=REMOTE
    )
    assert type(error) is RequestRejected
    assert "SSL_CERT_FILE" in str(error)


def test_a_remote_endpoint_that_refuses_is_not_told_to_start_ollama():
    refused = aiohttp.ClientConnectorError(None, OSError("refused"))  # type: ignore[arg-type]
    assert "check the address or set OPENAI_BASE_URL" in str(
        transport_error(refused, endpoint=REMOTE)
    )


def test_a_process_that_may_open_no_socket_does_not_blame_the_endpoint():
    full = aiohttp.ClientConnectorError(None, OSError(errno.EMFILE, "x"))  # type: ignore[arg-type]
    said = str(transport_error(full, endpoint=REMOTE))
    assert "Too many open files" in said
    assert "ulimit -n" in said


@pytest.mark.parametrize(
    ("error", "was_sent"),
    [
        (aiohttp.ClientConnectorError(None, OSError("refused")), False),  # type: ignore[arg-type]
        (aiohttp.ClientConnectorDNSError(None, OSError("unknown")), False),  # type: ignore[arg-type]
        (aiohttp.ConnectionTimeoutError(), False),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.SocketTimeoutError(), True),
        (aiohttp.ClientOSError(104, "reset"), True),
    ],
)
def test_what_never_stood_was_not_sent(error: Exception, was_sent: bool):
    assert transport_error(error, endpoint=REMOTE).was_sent is was_sent
