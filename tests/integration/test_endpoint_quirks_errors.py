"""What servers refuse, and in which words; rows of the table of quirks by number."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.canned import delta, events, refusal, whole
from tests.integration.llm_serving import failing, streaming
from workers.errors import (
    CompletionRefused,
    ContextOverflow,
    EmptyCompletion,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from workers.llm.double_script import HttpReply

LLAMA_OVERFLOW = {
    "error": {
        "code": 400,
        "type": "exceed_context_size_error",
        "message": "the request exceeds the available context size",
        "n_prompt_tokens": 12019,
        "n_ctx": 2048,
    }
}
VLLM_TOOLS = (
    '"auto" tool choice requires --enable-auto-tool-choice and'
    " --tool-call-parser to be set"
)


def openai_error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "param": None, **fields}}


ROWS: dict[str, tuple[HttpReply, type[LLMError], bool, str]] = {
    "8 Ollama cannot parse the model's call": (
        refusal(500, openai_error("error parsing tool call: raw='{'")),
        MalformedCompletion,
        True,
        "ask again",
    ),
    "25 llama.cpp overflow": (
        refusal(400, LLAMA_OVERFLOW),
        ContextOverflow,
        False,
        "raise the endpoint's context length",
    ),
    "26 LiteLLM overflow": (
        refusal(
            400,
            openai_error(
                "litellm.ContextWindowExceededError: too long",
                type="invalid_request_error",
            ),
        ),
        ContextOverflow,
        False,
        "does not fit",
    ),
    "26 OpenAI overflow": (
        refusal(400, openai_error("too long", code="context_length_exceeded")),
        ContextOverflow,
        False,
        "does not fit",
    ),
    "27 llama.cpp's code is a number": (
        refusal(400, openai_error("bad grammar", code=400)),
        RequestRejected,
        False,
        "bad grammar",
    ),
    "27 LiteLLM's code is a text": (
        refusal(429, openai_error("slow down", code="429")),
        RateLimited,
        True,
        "slow down",
    ),
    "27 LM Studio's error is a text": (
        refusal(400, {"error": "Model unloaded."}),
        RequestRejected,
        False,
        "Model unloaded",
    ),
    "27 vLLM is flat": (
        refusal(400, {"object": "error", "message": "flat words", "code": 400}),
        RequestRejected,
        False,
        "flat words",
    ),
    "27 a proxy's HTML": (
        refusal(502, "<html>Bad Gateway</html>", **{"content-type": "text/html"}),
        LLMUnavailable,
        True,
        "HTTP 502",
    ),
    "27 nothing": (refusal(503, ""), LLMUnavailable, True, "HTTP 503"),
    "29 quota": (
        refusal(429, openai_error("no money", code="insufficient_quota")),
        QuotaExhausted,
        False,
        "credit",
    ),
    "E2 credit exhausted": (
        refusal(429, openai_error("Your credit balance is too low")),
        QuotaExhausted,
        False,
        "credit",
    ),
    "30 Ollama is busy": (
        refusal(
            503, {"error": "server busy, please try again.  maximum pending requests"}
        ),
        LLMUnavailable,
        True,
        "server busy",
    ),
    "30 Ollama has no such model": (
        refusal(
            404,
            openai_error('model "m" not found, try pulling it first', type="x"),
        ),
        RequestRejected,
        False,
        "ollama pull m",
    ),
    "38 vLLM without its tool flags": (
        refusal(400, openai_error(VLLM_TOOLS)),
        RequestRejected,
        False,
        "start vLLM with --enable-auto-tool-choice",
    ),
    "39 Ollama refuses a part": (
        refusal(400, openai_error("invalid message format")),
        RequestRejected,
        False,
        "invalid message format",
    ),
    "E17 filter": (
        refusal(400, openai_error("filtered", code="content_filter")),
        CompletionRefused,
        False,
        "content filter",
    ),
    "11 error with status 200": (
        refusal(200, openai_error("upstream died", code=502)),
        LLMUnavailable,
        True,
        "upstream died",
    ),
    "11 rate limit with status 200": (
        refusal(200, openai_error("slow", code=429)),
        RateLimited,
        True,
        "asks to wait",
    ),
    "11 error event": (
        events(delta(content="he"), openai_error("died", code=500), done=False),
        LLMUnavailable,
        True,
        "died",
    ),
    "11 vLLM's error event": (
        events(delta(content="he"), {"object": "error", "message": "gone"}),
        LLMUnavailable,
        True,
        "gone",
    ),
    "9 a dropped call, document": (
        whole({"content": ""}),
        EmptyCompletion,
        True,
        "ask",
    ),
    "9 a dropped call, stream": (
        events(delta(content=""), delta("stop")),
        EmptyCompletion,
        True,
        "ask",
    ),
    "33 chaos": (
        refusal(200, "{malformed json: <<<chaos>>>"),
        MalformedCompletion,
        True,
        "not JSON",
    ),
    "E17 refusal": (
        whole({"content": None, "refusal": "I will not"}),
        CompletionRefused,
        False,
        "I will not",
    ),
    "E17 filtered to nothing": (
        whole({"content": ""}, finish="content_filter"),
        CompletionRefused,
        False,
        "refused",
    ),
    "E17 refusal, stream": (
        events(delta(refusal="I will "), delta("stop", refusal="not")),
        CompletionRefused,
        False,
        "I will not",
    ),
}


@streaming
@pytest.mark.parametrize("row", ROWS)
async def test_a_refusal_has_one_named_outcome(row: str, stream: bool):
    reply, leaf, retryable, words = ROWS[row]
    error = await failing([reply], stream)
    assert type(error) is leaf
    assert error.retryable is retryable
    assert words in str(error)


async def test_an_overflow_carries_both_numbers():
    error = await failing([refusal(400, LLAMA_OVERFLOW)])
    assert isinstance(error, ContextOverflow)
    assert (error.prompt_tokens, error.context_tokens) == (12019, 2048)


WAITS: dict[str, tuple[dict[str, str], float | None]] = {
    "milliseconds first": ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    "seconds": ({"retry-after": "2"}, 2.0),
    "a date that is past": ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    "negative": ({"retry-after": "-5"}, 0.0),
    "absurd": ({"retry-after": "1e9"}, 1e9),
    "nonsense": ({"retry-after": "soon"}, None),
    "none": ({}, None),
    "Go durations of what is used up": (
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "17",
            "x-ratelimit-reset-tokens": "20ms",
        },
        360.0,
    ),
    "Go durations when nothing says what is used up": (
        {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "1m2.5s"},
        62.5,
    ),
}


@streaming
@pytest.mark.parametrize("row", WAITS)
async def test_a_rate_limit_says_how_long_to_wait(row: str, stream: bool):
    headers, seconds = WAITS[row]
    error = await failing([refusal(429, openai_error("slow"), **headers)], stream)
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == seconds


@streaming
async def test_the_first_two_kilobytes_of_an_error_are_kept(stream: bool):
    error = await failing([refusal(418, "x" * 9000)], stream)
    assert len(error.body) == 2048
    assert len(str(error)) < 600
