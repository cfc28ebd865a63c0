"""A real model server: llama.cpp with a model whose weights the tests write."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import httpx
import pytest

from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig
from orchestrator.settings import load_settings
from tests.integration.llm_serving import ask, streaming
from tests.integration.tiny_model import ANSWER, CONTEXT_TOKENS, ENDLESS
from workers.agent_manager import LocalAgentManager
from workers.errors import ContextOverflow, EmptyCompletion, LLMError
from workers.in_process import open_orchestrator
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    FinishReason,
    TextDelta,
    ToolSpec,
)
from workers.tools.registry import ToolRegistry
from workers.tools.tool import tool

MISSING = [n for n in ("xllamacpp", "gguf") if importlib.util.find_spec(n) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {MISSING}; pip install celeriac[llamacpp]"
)
SECONDS = 60
LOOK = ToolSpec(
    name="look",
    description="Tells the weather.",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Oslo", "Rome"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
    },
)


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("llama")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.llama_server", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield next(line for line in process.stdout if line.startswith("http")).strip()
    finally:
        process.stdin.close()
        process.kill()
        process.wait(SECONDS)
        process.stdout.close()


@pytest.fixture
async def provider(server_url: str) -> AsyncIterator[ChatCompletionsProvider]:
    provider = ChatCompletionsProvider(f"{server_url}/v1", model="tiny")
    yield provider
    await provider.aclose()


def asking(text: str = "hello", **fields: object) -> CompletionRequest:
    messages = (Message(role=Role.USER, content=text),)
    return CompletionRequest.model_validate({"messages": messages, **fields})


@streaming
async def test_it_answers(provider: ChatCompletionsProvider, stream: bool):
    completion = await ask(provider, stream, asking())
    assert completion.message.content == ANSWER
    assert completion.finish_reason is FinishReason.STOP
    assert completion.usage is not None
    assert completion.usage.input_tokens > 10
    assert completion.usage.output_tokens >= len(ANSWER)


async def test_its_answer_is_told_before_it_is_whole(provider: ChatCompletionsProvider):
    *pieces, last = [piece async for piece in provider.stream(asking())]
    # A model as fast as this one may say it all before anybody reads.
    assert "".join(p.text for p in pieces if isinstance(p, TextDelta)) == ANSWER
    assert isinstance(last, Completion)


@streaming
async def test_it_calls_a_tool_and_reads_its_result(
    provider: ChatCompletionsProvider, stream: bool
):
    request = asking(tools=[LOOK])
    called = await ask(provider, stream, request)
    assert called.finish_reason is FinishReason.TOOL_CALLS
    assert not called.invalid_arguments
    [call] = called.message.tool_calls
    assert call.name == "look"
    assert call.arguments["city"] in {"Oslo", "Rome"}
    assert 1 <= int(str(call.arguments["days"])) <= 9
    result = Message(role=Role.TOOL, content="rain", tool_call_id=call.id)
    messages = (*request.messages, called.message, result)
    answer = await ask(
        provider, stream, request.model_copy(update={"messages": messages})
    )
    assert answer.message.content == ANSWER


async def test_an_agent_s_tool_loop_runs_on_it(provider: ChatCompletionsProvider):
    asked: list[str] = []

    @tool
    def look(city: Literal["Oslo", "Rome"]) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        asked.append(city)
        return "rain"

    manager = LocalAgentManager(provider, ToolRegistry([look]))
    manager.register_agent(AgentConfig(name="weather", tools=["look"]))
    async with open_orchestrator(load_settings(), manager=manager) as celeriac:
        handle = await celeriac.submit("weather", {"prompt": "How is it?"})
        result = await handle.result(timeout=SECONDS)
    assert result.content == ANSWER
    assert len(asked) == 1
    assert result.stats.tool_calls == 1
    assert result.stats.usage.total_tokens > 100


@streaming
async def test_a_call_cut_at_the_token_limit_is_told_and_has_no_arguments(
    provider: ChatCompletionsProvider, stream: bool
):
    request = asking(tools=[LOOK], max_output_tokens=45)
    try:
        completion = await ask(provider, stream, request)
    except (EmptyCompletion, LLMError) as exc:
        assert exc.code in {"empty_completion", "llm_unavailable"}  # noqa: PT017
        return
    assert completion.finish_reason is FinishReason.LENGTH
    for call in completion.message.tool_calls:
        assert call.id in completion.invalid_arguments
        assert call.arguments == {}


@streaming
async def test_its_overflow_is_named_with_both_numbers(
    provider: ChatCompletionsProvider, stream: bool
):
    with pytest.raises(ContextOverflow) as caught:
        await ask(provider, stream, asking("x" * (CONTEXT_TOKENS + 1000)))
    assert caught.value.context_tokens == CONTEXT_TOKENS
    assert (caught.value.prompt_tokens or 0) > CONTEXT_TOKENS
    assert not caught.value.retryable


async def test_it_honours_a_schema(provider: ChatCompletionsProvider):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    completion = await ask(provider, request=asking(output_schema=schema))
    assert isinstance(json.loads(completion.message.content)["ok"], bool)


async def processing(server_url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{server_url}/metrics")).text
    [line] = [
        line
        for line in metrics.splitlines()
        if line.startswith("llamacpp:requests_processing")
    ]
    return int(float(line.split()[1]))


async def until_processing(server_url: str, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await processing(server_url) != count:
            await asyncio.sleep(0.02)


async def test_closing_a_stream_stops_the_generation(
    server_url: str, provider: ChatCompletionsProvider
):
    pieces = provider.stream(asking(ENDLESS))
    assert isinstance(await anext(pieces), TextDelta)
    await until_processing(server_url, 1)
    await pieces.aclose()
    await until_processing(server_url, 0)
    assert (await ask(provider, request=asking())).message.content == ANSWER
