"""How long a prompt is, roughly; no tokenizer is at hand for an arbitrary model."""

from __future__ import annotations

from operator import is_

from conversations.message import Message
from conversations.token_estimate import whole_tokens
from conversations.window import estimate_parts
from workers.llm.provider import CompletionRequest


def prompt_tokens(request: CompletionRequest) -> int:
    """Return roughly how many tokens a request's messages and tools take."""
    return PromptSizes().tokens(request)


class PromptSizes:
    """Measures the prompts of one run: what one has in common with the last, once."""

    def __init__(self) -> None:
        self._last: tuple[Message, ...] = ()
        self._parts = 0
        """Of the last prompt's messages."""

    def tokens(self, request: CompletionRequest) -> int:
        """Return roughly how many tokens a request's messages and tools take."""
        messages, last = request.messages, self._last
        if messages is not last:
            begins = len(messages) >= len(last) and all(map(is_, messages, last))
            known = self._parts if begins else 0
            fresh = messages[len(last) :] if begins else messages
            self._parts = known + estimate_parts(fresh)
            self._last = messages
        tools = sum(tool.prompt_tokens for tool in request.tools)
        return whole_tokens(self._parts) + tools
