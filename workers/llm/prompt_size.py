"""How long a prompt is, roughly; no tokenizer is at hand for an arbitrary model."""

from __future__ import annotations

from conversations.json_value import size_of
from conversations.window import CHARACTERS_PER_TOKEN, estimate_tokens
from workers.llm.provider import CompletionRequest

_TOKENS_OF_A_TOOL = 16
"""What templates put around a tool's description and parameters."""


def prompt_tokens(request: CompletionRequest) -> int:
    """Return roughly how many tokens a request's messages and tools take."""
    tools = sum(
        _TOKENS_OF_A_TOOL
        + (len(tool.description) + size_of(tool.schema_)) // CHARACTERS_PER_TOKEN
        for tool in request.tools
    )
    return tools + sum(map(estimate_tokens, request.messages))
