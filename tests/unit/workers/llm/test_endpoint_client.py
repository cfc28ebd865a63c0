"""What a request to an endpoint keeps while its answer is awaited."""

from __future__ import annotations

import asyncio
import gc
from types import FunctionType

from conversations.message import Message, Role
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.provider import CompletionRequest

NOT_KEPT_BY_A_CALL = (type, FunctionType, asyncio.AbstractEventLoop)
"""They lead to whatever else there is in the process, such as the endpoint."""
WORDS = "a prompt that nobody else has written " * 1000


async def test_a_prompts_text_is_let_go_while_the_model_thinks():
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_: object) -> str:
        asked.set()
        await may_answer.wait()
        return "done"

    async with Double(answer) as double:
        provider = ChatCompletionsProvider(double.url, model="scripted")
        message = Message(role=Role.USER, content=WORDS)
        completing = asyncio.create_task(
            provider.complete(CompletionRequest(messages=(message,)))
        )
        await asked.wait()
        kept = held_by(completing.get_coro(), size=len(WORDS))
        may_answer.set()
        completion = await completing
        await provider.aclose()

    assert completion.message.content == "done"
    assert not kept


def held_by(root: object, *, size: int) -> list[bytes]:
    """Return the bytes of at least that size that a coroutine's frames lead to."""
    seen, todo, found = set(), [root], []
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, NOT_KEPT_BY_A_CALL):
            continue
        seen.add(id(each))
        if isinstance(each, bytes) and len(each) >= size:
            found.append(each)
        todo += gc.get_referents(each)
    return found
