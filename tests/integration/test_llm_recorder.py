"""What a real endpoint answers can be recorded and replayed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.integration.llm_serving import KEY, ask, provider_at
from workers.errors import LLMUnavailable, RateLimited
from workers.llm.double import Double
from workers.llm.double_script import read_script
from workers.llm.endpoint import Endpoint
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
