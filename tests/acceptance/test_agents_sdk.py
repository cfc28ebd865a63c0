"""The OpenAI Agents SDK with the facade as its model provider."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from openai import AsyncOpenAI

from conversations.message import ToolCall
from tests.http_service import serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from agents import (
        Agent,
        ModelSettings,
        OpenAIProvider,
        RunConfig,
        Runner,
        function_tool,
        set_tracing_disabled,
    )

set_tracing_disabled(True)


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.timeout(120)
@pytest.mark.parametrize("use_responses", [True, False], ids=["responses", "chat"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_tools_of_the_client_run_there(
    use_responses: bool, streamed: bool
) -> None:
    replies: list[Any] = [
        [ToolCall(id="c1", name="add", arguments={"a": 2, "b": 3})],
        "It is 5.",
    ]
    async with (
        serving(replies) as service,
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client,
    ):
        provider = OpenAIProvider(openai_client=client, use_responses=use_responses)
        agent = Agent(
            name="calculator",
            instructions="Use the tool.",
            model="assistant",
            tools=[add],
            model_settings=ModelSettings(temperature=0.5),
        )
        config = RunConfig(model_provider=provider, tracing_disabled=True)
        if streamed:
            run = Runner.run_streamed(agent, "2+3?", run_config=config)
            async for _event in run.stream_events():
                pass
            answer = run.final_output
        else:
            result = await Runner.run(agent, "2+3?", run_config=config)
            answer = result.final_output
        assert answer == "It is 5."
        first, second = service.model.requests
        assert [tool.name for tool in first.tools] == ["add"]
        assert first.temperature == 0.5
        assert first.messages[0].content == "Use the tool."
        assert second.messages[-1].content == "5"


@pytest.mark.timeout(120)
async def test_tools_of_the_worker_are_not_asked_of_the_client() -> None:
    replies: list[Any] = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        "Sunny.",
    ]
    async with (
        serving(replies) as service,
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client,
    ):
        provider = OpenAIProvider(openai_client=client, use_responses=True)
        agent = Agent(name="weather", model="forecaster")
        config = RunConfig(model_provider=provider, tracing_disabled=True)
        result = await Runner.run(agent, "Rome?", run_config=config)
        assert result.final_output == "Sunny."
        again = [*result.to_input_list(), {"role": "user", "content": "And now?"}]
        service.model._answer = lambda _: "Still sunny."
        result = await Runner.run(agent, again, run_config=config)
        assert result.final_output == "Still sunny."
        roles = [m.role.value for m in service.model.requests[-1].messages]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
