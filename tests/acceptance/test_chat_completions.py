"""The official OpenAI client, unmodified: chat completions."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from conversations.message import ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.task import RetryPolicy
from tests.acceptance.openai_client import (
    ADD,
    client_of,
    service,
)
from workers.agent_manager import LocalAgentManager
from workers.errors import RateLimited


async def test_chat_completions_answer_whole_and_in_pieces() -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1})
    async with service(["Hello", "Hello again", [call]]) as (running, client):
        whole = await client.chat.completions.create(
            model="assistant",
            messages=[
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "hi"},
            ],
            max_tokens=9,
        )
        ChatCompletion.model_validate(whole.to_dict(), strict=True)
        assert whole.choices[0].message.content == "Hello"
        assert whole.choices[0].finish_reason == "stop"
        assert running.model.requests[0].max_output_tokens == 9
        stream = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "Hello again"
        assert chunks[-1].usage is not None
        function = {name: ADD[name] for name in ("name", "parameters")}
        tools = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "1+1?"}],
            tools=[{"type": "function", "function": function}],  # type: ignore[list-item]
        )
        choice = tools.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].id == "c1"


async def test_a_chat_completion_that_fails_is_an_error_that_is_not_tried_again() -> (
    None
):
    limited = RateLimited("slow down", status=429)

    def once(manager: LocalAgentManager) -> None:
        retry = RetryPolicy(max_attempts=1)
        manager.register_agent(AgentConfig(name="assistant", retry=retry))

    async with (
        service([limited], prepare=once) as (running, _),
        client_of(running.url, max_retries=2) as patient,
    ):
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await patient.chat.completions.create(
                model="assistant", messages=[{"role": "user", "content": "hi"}]
            )
        assert len(running.model.requests) == 1
