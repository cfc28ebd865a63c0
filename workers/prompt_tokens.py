"""How many tokens prompts and messages take: estimates, held against what was counted.

The endpoint counts whole prompts. A run's ratio of counted to estimated tokens corrects
the estimates of its own messages; an assistant's message is counted by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from conversations.message import Message, Role
from conversations.trusted import whole
from conversations.window import estimate_tokens
from orchestrator.task import Usage
from workers.llm.provider import Completion

RATIO_LIMITS = (0.25, 4.0)
"""A ratio beyond them says that the endpoint counts something else."""


class Exchange(NamedTuple):
    """What a completion said and took, and the estimate of its prompt."""

    prompt_tokens: int
    answer: Message
    usage: Usage | None

    @classmethod
    def of(cls, completion: Completion, prompt_tokens: int) -> Exchange:
        """Return what is kept of a completion."""
        return cls(prompt_tokens, completion.message, completion.usage)


def counted(
    turn: Sequence[Message], exchanges: Sequence[Exchange]
) -> tuple[Message, ...]:
    """Return the turn with each message's tokens, where the endpoint counted any."""
    told = [
        (estimate, answer, usage)
        for estimate, answer, usage in exchanges
        if usage is not None and usage.input_tokens
    ]
    if not told:
        return tuple(turn)
    estimated = sum(estimate for estimate, _, _ in told)
    lowest, highest = RATIO_LIMITS
    ratio = sum(usage.input_tokens for _, _, usage in told) / max(1, estimated)
    ratio = min(highest, max(lowest, ratio))
    answers = [
        (answer, usage.output_tokens - usage.reasoning_tokens)
        for _, answer, usage in reversed(told)
    ]
    known = {id(answer): tokens for answer, tokens in answers}
    return tuple(
        whole(
            type(message),
            message.__dict__
            | {
                "tokens": known.get(id(message))
                or _counted_alone(message, answers)
                or max(1, round(estimate_tokens(message) * ratio))
            },
        )
        for message in turn
    )


def _counted_alone(
    message: Message, answers: Sequence[tuple[Message, int]]
) -> int | None:
    """Return what the endpoint counted of an answer; None of another message."""
    if message.role is not Role.ASSISTANT:
        return None
    return next((tokens for answer, tokens in answers if answer == message), None)
