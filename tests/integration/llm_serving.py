"""A provider and the double that it asks, for the tests of the endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from conversations.message import Message
from workers.errors import LLMError
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.double_script import Script
from workers.llm.endpoint import CallLimits
from workers.llm.provider import (
    Completion,
    CompletionRequest,
)
from workers.llm.run_provider import whole

KEY = "sk-planted-canary"
ASKED = CompletionRequest(messages=(Message(role="user", content="hello"),))
EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
SSE = {"content-type": "text/event-stream"}
streaming = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@asynccontextmanager
async def serving(
    script: Script | None = None, **limits: Any
) -> AsyncIterator[tuple[Double, ChatCompletionsProvider]]:
    async with Double(script) as double:
        provider = ChatCompletionsProvider(
            double.url, model="m", api_key=SecretStr(KEY), limits=CallLimits(**limits)
        )
        try:
            yield double, provider
        finally:
            await provider.aclose()


@asynccontextmanager
async def provider_at(url: str) -> AsyncIterator[ChatCompletionsProvider]:
    provider = ChatCompletionsProvider(url, model="m")
    try:
        yield provider
    finally:
        await provider.aclose()


async def ask(
    provider: ChatCompletionsProvider,
    stream: bool = False,
    request: CompletionRequest = ASKED,
) -> Completion:
    return await whole(provider, request, (lambda _: None) if stream else None)


async def failing(script: Script, stream: bool = False, **limits: Any) -> LLMError:
    async with serving(script, **limits) as (double, provider):
        with pytest.raises(LLMError) as caught:
            await ask(provider, stream)
        assert KEY not in f"{caught.value}{caught.value!r}{caught.value.body}"
        assert double.url in str(caught.value) or caught.value.endpoint == double.url
        return caught.value
