"""The double's named faults and files of replies, each against the real provider."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from socket import create_connection
from urllib.parse import urlsplit

import pytest

from tests.integration.llm_serving import ask, failing, serving, streaming
from workers.agent_bench import DoubleBench
from workers.errors import (
    ContextOverflow,
    EmptyCompletion,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    StreamTruncated,
)
from workers.llm.double import Double
from workers.llm.double_script import FAULTS, HttpReply, InvalidScript, read_script

OUTCOMES: dict[str, type[LLMError] | tuple[type[LLMError], ...]] = {
    "rate_limited": RateLimited,
    "rate_limited_silently": RateLimited,
    "server_error": LLMUnavailable,
    "unavailable": LLMUnavailable,
    "refuse": LLMUnavailable,
    "hang": LLMUnavailable,
    "drip": LLMUnavailable,
    "cut": (StreamTruncated, MalformedCompletion),
    "truncated_json": MalformedCompletion,
    "invalid_events": MalformedCompletion,
    "truncated_event": StreamTruncated,
    "wrong_content_type": MalformedCompletion,
    "empty_body": MalformedCompletion,
    "empty_answer": EmptyCompletion,
    "huge_body": MalformedCompletion,
    "redirect": RequestRejected,
    "error_in_200": LLMUnavailable,
    "no_credit": QuotaExhausted,
    "context_overflow": ContextOverflow,
}
"""All of `FAULTS` but the bad arguments, which are told to the model."""


def test_every_fault_has_its_outcome_here():
    assert {*OUTCOMES, "bad_arguments"} == FAULTS.keys()


@streaming
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_a_fault_has_one_named_outcome(fault: str, stream: bool):
    # Twice: a connection that closes without a byte is tried once more at once.
    script = [{"fault": fault}] * 2
    limits = {"total_seconds": 0.8} if fault in {"hang", "drip"} else {}
    error = await failing(script, stream, max_bytes=1024 * 1024, **limits)
    assert isinstance(error, OUTCOMES[fault])
    wait = 1.0 if fault == "rate_limited" else None
    assert error.retry_after_seconds == wait


@streaming
async def test_bad_arguments_are_told_by_call(stream: bool):
    async with serving([{"fault": "bad_arguments"}]) as (_, provider):
        completion = await ask(provider, stream)
    [call] = completion.message.tool_calls
    assert call.arguments == {}
    assert call.id in completion.invalid_arguments


def test_a_fault_s_fields_may_be_changed_and_its_name_must_be_one():
    reply = HttpReply.model_validate({"fault": "rate_limited", "headers": {}})
    assert (reply.status, reply.headers) == (429, {})
    with pytest.raises(ValueError, match="rate_limited_silently"):
        HttpReply.model_validate({"fault": "novelty"})


def test_a_script_is_a_list_in_yaml_or_python(tmp_path: Path):
    yaml, python = tmp_path / "replies.yaml", tmp_path / "replies.py"
    yaml.write_text("- hello\n- {fault: cut, text: one two}\n")
    python.write_text("script = ['hello', {'fault': 'cut', 'text': 'one two'}]\n")
    for path in (yaml, python):
        script = read_script(path)
        assert not callable(script)
        first, second = script
        assert isinstance(first, HttpReply)
        assert isinstance(second, HttpReply)
        assert (first.text, second.cut_after) == ("hello", 2)


FUNCTION = """
def script(body):
    return {"text": f"{len(body['messages'])} messages for {body['model']}"}
"""


async def test_a_script_in_python_may_be_a_function(tmp_path: Path):
    path = tmp_path / "echo.py"
    path.write_text(FUNCTION)
    async with serving(read_script(path)) as (_, provider):
        for _ in range(2):
            completion = await ask(provider)
            assert completion.message.content == "1 messages for m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("replies = []", "it sets no `script`"),
        ("script = 3", "holds int instead of a list"),
        ("script = [", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("script = [{'novelty': 1}]", "reply 0 cannot be used"),
    ],
)
def test_a_script_that_cannot_be_used_says_why(tmp_path: Path, text: str, words: str):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InvalidScript, match=r"broken\.py") as caught:
        read_script(path)
    assert words in str(caught.value)


def test_a_test_s_double_takes_files(tmp_path: Path):
    path = tmp_path / "echo.py"
    path.write_text(FUNCTION)
    bench = DoubleBench()
    try:
        bench.load(path)
        assert bench.run_agent("llm", "hi").content == "1 messages for scripted"
        assert bench.problems() == []
    finally:
        bench.close()


@pytest.mark.parametrize("turns", range(5))
async def test_whoever_connects_while_it_ends_is_hung_up_on(turns: int):
    """In whichever turn of the event loop; else its transport stays behind, open."""
    double = Double()
    async with double:
        late = create_connection(("127.0.0.1", urlsplit(double.url).port))
        for _ in range(turns):
            await asyncio.sleep(0)
    with late:
        late.settimeout(10)
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(late.recv, 1) == b""
