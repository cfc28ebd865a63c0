"""How long a prompt is, roughly; no tokenizer is at hand for an arbitrary model."""

from __future__ import annotations

from conversations.message import Message
from conversations.window import estimate_tokens
from workers.llm.provider import CompletionRequest


def prompt_tokens(request: CompletionRequest) -> int:
    """Return roughly how many tokens a request's messages and tools take."""
    return PromptSizes().tokens(request)


class PromptSizes:
    """Measures the prompts of one run, each message once in however many it stands."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Message, int]] = {}
        """By identity, which holds as long as the message is kept here."""

    def tokens(self, request: CompletionRequest) -> int:
        """Return roughly how many tokens a request's messages and tools take."""
        tokens = sum(tool.prompt_tokens for tool in request.tools)
        known = self._known
        for message in request.messages:
            found = known.get(id(message))
            if found is None:
                found = known[id(message)] = (message, estimate_tokens(message))
            tokens += found[1]
        return tokens
