"""Which messages a model sees: pure functions over a history.

A window keeps the system messages and the newest user message, holds tool calls and
their results together, and moves in steps: its start stays where it is for many turns,
so that a server's prompt cache keeps its worth. Stored messages are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conversations.history import follow
from conversations.json_value import size_of
from conversations.message import Message, Role, StoredMessage

CHARACTERS_PER_TOKEN = 4
"""English text has about 4 characters a token in current vocabularies; no tokenizer is
at hand for an arbitrary model. Other scripts have fewer: leave room for them."""
TOKENS_PER_MESSAGE = 4
"""What chat templates put around each message: role and delimiters."""


def estimate_tokens(message: Message) -> int:
    """Tokens that a message costs in a prompt, roughly."""
    characters = len(message.content) + len(message.reasoning or "")
    for call in message.tool_calls:
        characters += len(call.name) + size_of(call.arguments)
    return TOKENS_PER_MESSAGE + -(-characters // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class _Group:
    """Messages that stand or fall together: one message, or calls with results."""

    place: int
    messages: tuple[Message, ...]
    tokens: int

    @property
    def role(self) -> Role:
        return self.messages[0].role


def visible_window(
    messages: Sequence[Message | StoredMessage],
    *,
    context_window: int,
    context_tokens: int | None = None,
) -> tuple[Message, ...]:
    """Return the messages that a model is to see, in order.

    At most `context_window` messages besides system messages, and at most an estimated
    `context_tokens` in all. Only the system messages and the newest user message are
    kept even when they alone exceed `context_tokens`. Calls that await their results
    stay only at the very end. The start of the window is stable when the places of
    the messages are: pass stored messages, or the history from its first message.
    """
    groups = list(_groups(messages))
    if not groups:
        return ()
    system = [group for group in groups if group.role is Role.SYSTEM]
    others = [group for group in groups if group.role is not Role.SYSTEM]
    users = [group for group in others if group.role is Role.USER]
    bounds = _Bounds(last=_place(messages, len(messages) - 1), limit=context_window)
    if context_tokens is not None:
        bounds = bounds.with_tokens(context_tokens).without(system)
    cut = bounds.cut(others)
    kept = {group.place for group in system + users[-1:]}
    if users and users[-1].place <= cut:
        rest = [group for group in others if group is not users[-1]]
        cut = bounds.without(users[-1:], messages=1).cut(rest)
    return tuple(
        message
        for group in groups
        if group.place in kept or (group.role is not Role.SYSTEM and group.place > cut)
        for message in group.messages
    )


@dataclass(frozen=True)
class _Bounds:
    """What the window must fit into."""

    last: int
    limit: int
    tokens: int | None = None

    def with_tokens(self, tokens: int) -> _Bounds:
        return _Bounds(self.last, self.limit, tokens)

    def without(self, groups: Sequence[_Group], *, messages: int = 0) -> _Bounds:
        """What is left when these groups are kept anyway."""
        tokens = self.tokens
        if tokens is not None:
            tokens -= sum(group.tokens for group in groups)
        return _Bounds(self.last, self.limit - messages, tokens)

    def cut(self, groups: Sequence[_Group]) -> int:
        """The place up to which nothing is shown, on the coarsest grid that serves.

        The grid's lines stand at multiples of half the limit, so that a window holds
        between half and all of it; where that would show nothing, the grid is finer.
        """
        step = max(1, self.limit // 2)
        while step:
            lowest = max(0, -(-(self.last - self.limit) // step) * step)
            for cut in range(lowest, self.last, step):
                shown = [group for group in groups if group.place > cut]
                if shown and self._hold(shown):
                    return cut
            step //= 2
        return self.last

    def _hold(self, groups: Sequence[_Group]) -> bool:
        return self.tokens is None or self.tokens >= sum(g.tokens for g in groups)


def _place(messages: Sequence[Message | StoredMessage], index: int) -> int:
    message = messages[index]
    return message.seq if isinstance(message, StoredMessage) else index + 1


def _groups(messages: Sequence[Message | StoredMessage]) -> Iterator[_Group]:
    """Yield the groups in order; leaves out what no server would accept.

    That is a tool result without its call, and a call without all its results unless
    it is the last.
    """
    index = 0
    while index < len(messages):
        first = index
        message = _message(messages[index])
        group = [message]
        open_calls = follow(frozenset(), message)
        index += 1
        while open_calls and index < len(messages):
            result = _message(messages[index])
            if result.role is not Role.TOOL or result.tool_call_id not in open_calls:
                break
            group.append(result)
            open_calls = follow(open_calls, result)
            index += 1
        whole = not open_calls or index == len(messages)
        if whole and message.role is not Role.TOOL:
            tokens = sum(estimate_tokens(each) for each in group)
            yield _Group(_place(messages, first), tuple(group), tokens)


def _message(message: Message | StoredMessage) -> Message:
    return message.message if isinstance(message, StoredMessage) else message
