"""How long a prompt is, roughly; no tokenizer is at hand for an arbitrary model."""

from __future__ import annotations

from conversations.json_value import dumps
from conversations.token_estimate import tokens_in
from conversations.window import estimate_tokens
from workers.llm.provider import CompletionRequest

_TOKENS_OF_A_TOOL = 16
"""What templates put around a tool's description and parameters."""


def prompt_tokens(request: CompletionRequest) -> int:
    """Return roughly how many tokens a request's messages and tools take."""
    tools = sum(
        _TOKENS_OF_A_TOOL + tokens_in(tool.description) + tokens_in(dumps(tool.schema_))
        for tool in request.tools
    )
    return tools + sum(map(estimate_tokens, request.messages))
