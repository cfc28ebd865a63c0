"""Whether a prompt fits the context of its model, and what to leave out if not.

Ollama does not refuse a prompt that is too long: it drops messages from its front and
answers 200. So prompts are shortened here, by whole groups, where the length of the
context is known, and an answer to a prompt that was cut is not taken for one.
"""

from __future__ import annotations

from conversations.window import tokens_of, visible_window
from workers.errors import ContextOverflow
from workers.llm.provider import Completion, CompletionRequest, FinishReason

_ANSWER_SHARE = 4
"""At most a fourth of the context is kept free for the answer."""
_CHARS_OF_A_LONG_TOKEN = 8
"""No vocabulary averages more over a text; prompts that seem to were cut."""
_SURE_FROM_TOKENS = 1000
"""Shorter prompts say too little."""


def weighed_tokens(request: CompletionRequest) -> int:
    """Return the tokens of a prompt as the window weighs it, message by message.

    As counted, where the endpoint has counted a message: our estimate of it may be a
    third or the double of that.
    """
    messages = sum(tokens_of(message) for message in request.messages)
    return messages + sum(tool.prompt_tokens for tool in request.tools)


def fitted(request: CompletionRequest, context_tokens: int) -> CompletionRequest:
    """Return the request with the newest whole groups that fit the context.

    Raises:
        ContextOverflow: system messages and the newest question alone do not fit.
    """
    answer = request.max_output_tokens or 0
    room = context_tokens - min(answer, context_tokens // _ANSWER_SHARE)
    wanted = weighed_tokens(request)
    if wanted <= room:
        return request
    tools = wanted - weighed_tokens(request.model_copy(update={"tools": ()}))
    messages = visible_window(
        request.messages,
        context_window=max(1, len(request.messages)),
        context_tokens=max(1, room - tools),
    )
    shorter = request.model_copy(update={"messages": messages})
    if weighed_tokens(shorter) > room or len(messages) == len(request.messages):
        raise ContextOverflow(
            f"the prompt of about {wanted} tokens does not fit the context of"
            f" {context_tokens} tokens of model {request.model!r}, even without its"
            " older messages; shorten it or raise the context length"
            " (Ollama: OLLAMA_CONTEXT_LENGTH=65536 ollama serve)",
            prompt_tokens=wanted,
            context_tokens=context_tokens,
        )
    return shorter


def was_cut(
    request: CompletionRequest,
    completion: Completion,
    context_tokens: int | None,
    *,
    sent: int,
) -> bool:
    """Whether the endpoint has read less than the tokens that it was sent."""
    if completion.usage is None or not completion.usage.input_tokens:
        return False
    read = completion.usage.input_tokens
    if sent < _SURE_FROM_TOKENS:
        return False
    if context_tokens is not None:
        return sent > context_tokens and read <= context_tokens
    characters = sum(len(message.content) for message in request.messages)
    total = completion.usage.total_tokens
    cut_off = completion.finish_reason is FinishReason.LENGTH
    is_full = cut_off and _is_power_of_2(total)
    return is_full or read < characters / _CHARS_OF_A_LONG_TOKEN


class Readings:
    """How much was read of a run's prompts, one after another."""

    def __init__(self) -> None:
        self._last: tuple[CompletionRequest, int] | None = None
        """Of a prompt long enough to say something; others are not kept."""

    def fell(self, request: CompletionRequest, completion: Completion) -> bool:
        """Whether less was read of a prompt than of its own beginning before."""
        read = completion.usage.input_tokens if completion.usage else 0
        if not read:
            return False
        last = self._last
        self._last = (request, read) if read >= _SURE_FROM_TOKENS else None
        if last is None or read >= last[1]:
            return False
        before = last[0]
        return (request.model, request.tools) == (
            before.model,
            before.tools,
        ) and request.messages[: len(before.messages)] == before.messages


def _is_power_of_2(number: int) -> bool:
    return not number & (number - 1)
