"""What a real endpoint answers can be recorded and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from tests.integration.canned import delta, events
from tests.integration.llm_serving import KEY, ask, provider_at
from workers.errors import LLMUnavailable, RateLimited
from workers.llm.double import Double
from workers.llm.double_script import read_script
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.recorder import Recorder


async def test_answers_are_recorded_and_replayed_without_the_key(tmp_path: Path):
    path = tmp_path / "answers.yaml"
    replies = [
        f"the key is {KEY}",
        {"text": "one two"},
        {"status": 429, "headers": {"Retry-After": "7"}, "text": "slow"},
    ]
    async with Double(replies) as real:
        endpoint = Endpoint(base_url=real.url, api_key=SecretStr(KEY))
        recorder = Recorder(endpoint, path)
        async with Double(recorder) as recording, provider_at(recording.url) as llm:
            assert "[secret]" in (await ask(llm)).message.content
            assert (await ask(llm, stream=True)).message.content == "one two"
            with pytest.raises(RateLimited):
                await ask(llm)
        await recorder.aclose()
        assert real.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in path.read_text()
    async with Double(read_script(path)) as double, provider_at(double.url) as llm:
        assert "[secret]" in (await ask(llm)).message.content
        assert (await ask(llm, stream=True)).message.content == "one two"
        with pytest.raises(RateLimited) as caught:
            await ask(llm)
        assert caught.value.retry_after_seconds == 7
        assert not double.unused


async def test_an_endpoint_that_does_not_answer_is_told_and_not_recorded(
    tmp_path: Path, unused_tcp_port: int
):
    path = tmp_path / "answers.yaml"
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    recorder = Recorder(endpoint, path)
    async with Double(recorder) as recording, provider_at(recording.url) as llm:
        with pytest.raises(LLMUnavailable, match="no LLM endpoint answers"):
            await ask(llm)
    await recorder.aclose()
    assert path.read_text() == ""


async def recorded(path: Path, replies: list[Any], **limits: Any) -> list[str]:
    """Record what an endpoint says in each reply, or why it was not recorded."""
    said = []
    async with Double(replies) as real:
        endpoint = Endpoint(base_url=real.url, api_key=SecretStr(KEY))
        recorder = Recorder(endpoint, path, limits=CallLimits(**limits))
        async with Double(recorder) as recording, provider_at(recording.url) as llm:
            for _ in replies:
                try:
                    answer = await ask(llm)
                except LLMUnavailable as exc:
                    said.append(str(exc))
                else:
                    said.append(answer.message.content)
        await recorder.aclose()
    return said


async def test_a_key_in_pieces_or_escaped_is_not_in_the_file(tmp_path: Path):
    path = tmp_path / "answers.yaml"
    escaped = "".join(f"\\u{ord(char):04x}" for char in KEY)
    pieces = [delta(content=char) for char in f"it is {KEY}."]
    replies = [
        {"body": '{"choices":[{"message":{"content":"KEY"}}]}'.replace("KEY", escaped)},
        events(*pieces, delta("stop")),
        {"status": 503, "text": f"no key={KEY}", "headers": {"retry-after": KEY}},
    ]
    said = await recorded(path, replies)
    assert said[:2] == ["[secret]", "it is [secret]."]
    kept = yaml.safe_load(path.read_text())
    assert len(kept) == 3
    assert "canary" not in json.dumps(kept)
    async with Double(read_script(path)) as double, provider_at(double.url) as llm:
        assert [(await ask(llm)).message.content for _ in range(2)] == said[:2]


async def test_what_cannot_be_cleaned_or_has_no_end_is_told_and_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "answers.yaml"
    torn = f"<b>{KEY[:9]}</b><i>{KEY[9:]}</i>"
    replies = [
        {"body": torn, "headers": {"content-type": "text/html"}},
        {"text": "x", "padding_bytes": 10_000},
        {"text": "x", "headers": {"content-encoding": "br"}},
        {"hang": True},
        "fine",
    ]
    said = await recorded(path, replies, max_bytes=4096, total_seconds=1)
    words = ("was not recorded", "more than 4096 bytes", "without", "in time", "fine")
    for text, word in zip(said, words, strict=True):
        assert word in text
        assert "canary" not in text
    assert len(yaml.safe_load(path.read_text())) == 1
    assert capsys.readouterr().err.count("recorder: ") == 4
