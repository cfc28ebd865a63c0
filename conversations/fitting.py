"""Makes a prompt fit a number of tokens: pure functions, nothing stored is changed.

History goes first, in whole groups from its old end; then the biggest tool results of
the turn itself are shortened, visibly.
"""

from __future__ import annotations

from collections.abc import Sequence

from conversations.errors import ContextTooLong
from conversations.message import Message, Role
from conversations.window import estimate_tokens, split_groups, tokens_of

ROOM_AFTER_A_CUT = 4
"""History is cut to leave a quarter free, so that it is not cut for every completion,
which would cost the server's prompt cache each time."""
SHORTEST_RESULT = 200
"""Characters of a tool result that are never taken away."""


def fit_history(
    history: Sequence[Message], turn: Sequence[Message], *, tokens: int
) -> tuple[Message, ...]:
    """Return the history without the oldest groups that keep the turn from fitting.

    System and pinned messages stay, and calls whose results the turn begins with; so
    does the newest question, where the turn asks none.
    """
    left = tokens - _total(turn) - _total(history)
    if left >= 0:
        return tuple(history)
    groups = list(split_groups(history))
    asks = any(message.role is Role.USER for message in turn)
    users = [] if asks else [g for g in groups if g.first.role is Role.USER]
    gone: set[int] = set()
    for group in groups:
        if left >= tokens // ROOM_AFTER_A_CUT:
            break
        if not (group.is_kept or group.awaits_results or group in users[-1:]):
            gone.add(group.place)
            left += group.tokens
    return tuple(
        message
        for group in groups
        if group.place not in gone
        for message in group.messages
    )


def fit_turn(
    history: Sequence[Message], turn: Sequence[Message], *, tokens: int
) -> tuple[Message, ...]:
    """Return the turn with its biggest tool results shortened until all fits.

    Raises:
        ContextTooLong: it cannot be made to fit.
    """
    fitted = list(turn)
    excess = _total(history) + _total(turn) - tokens
    while excess > 0:
        places = range(len(fitted))
        spare = [_spare(fitted[index], turn[index].content) for index in places]
        place = max(places, key=spare.__getitem__, default=-1)
        if place < 0 or spare[place] <= 0:
            raise ContextTooLong(needed=tokens + excess, limit=tokens)
        kept = SHORTEST_RESULT + spare[place] // 2
        shorter = _shorten(fitted[place], turn[place].content, kept=kept)
        excess -= tokens_of(fitted[place]) - tokens_of(shorter)
        fitted[place] = shorter
    return tuple(fitted)


def _total(messages: Sequence[Message]) -> int:
    return sum(tokens_of(message) for message in messages)


def _spare(message: Message, original: str) -> int:
    """Characters that could be taken away from a tool result, its note counted."""
    if message.role is not Role.TOOL:
        return 0
    return len(message.content) - len(_beginning(original, SHORTEST_RESULT))


def _shorten(message: Message, original: str, *, kept: int) -> Message:
    """Keep so many characters; say how many are missing in all."""
    content = _beginning(original, kept)
    shorter = message.model_copy(update={"content": content, "tokens": None})
    return shorter.model_copy(update={"tokens": estimate_tokens(shorter)})


def _beginning(original: str, kept: int) -> str:
    return original[:kept] + _note(original, kept)


def _note(original: str, kept: int) -> str:
    missing = len(original) - kept
    return f"\n[… {missing} of {len(original)} characters left out to fit the context]"
