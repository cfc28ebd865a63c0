"""A model that answers from a script, in the same process: no socket, no server.

For tests and for trying things out; the script may also raise.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable

from conversations.message import Message
from workers.errors import RequestRejected
from workers.llm.completion_parser import CompletionAccumulator
from workers.llm.endpoint import DEFAULT_BASE_URL, DEFAULT_MODEL
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.reply import Reply, Scripted, default_text, reply_fields
from workers.llm.reply_body import whole_body

ScriptedAnswer = Scripted | Completion | Exception
"""A reply in any of its forms, a finished completion, or what to raise."""
Script = Iterable[ScriptedAnswer] | Callable[[CompletionRequest], ScriptedAnswer]
"""Replies in order, or a function of the request."""


class ScriptedLLMProvider:
    """Answers with `replies`; without any, with a text that says it is scripted.

    A call beyond the last reply is refused; `unused` tells what was not asked for.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        *,
        model: str = DEFAULT_MODEL,
        replies: Script | None = None,
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.requests: list[CompletionRequest] = []
        """What was asked, in order."""
        self.unused: list[ScriptedAnswer] = []
        """Replies that nobody has asked for yet."""
        self._answer: Callable[[CompletionRequest], ScriptedAnswer]
        if replies is None:
            self._answer = self._default
        elif callable(replies):
            self._answer = replies
        else:
            self.unused = list(replies)
            self._answer = self._next

    async def complete(self, request: CompletionRequest) -> Completion:
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        parser = CompletionAccumulator(stop=request.stop)
        parser.feed(
            whole_body(
                Reply.model_validate(reply_fields(answer)),
                model=request.model or self.model,
                prompt_chars=sum(map(_chars, request.messages)),
            )
        )
        return parser.completion(ended=True)

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        completion = await self.complete(request)
        for words in re.findall(r"\s*\S+\s*", completion.message.content):
            yield TextDelta(text=words)
        yield completion

    async def aclose(self) -> None:
        """Nothing is open."""

    def _default(self, request: CompletionRequest) -> str:
        return default_text(request.model or self.model, self.base_url)

    def _next(self, request: CompletionRequest) -> ScriptedAnswer:
        if not self.unused:
            raise RequestRejected(
                f"the script has no reply for call {len(self.requests)}"
                f" ({len(request.messages)} messages); add one to replies",
                endpoint=self.base_url,
            )
        return self.unused.pop(0)


def _chars(message: Message) -> int:
    return len(message.content) + len(str(message.tool_calls))
