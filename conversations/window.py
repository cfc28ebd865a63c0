"""Which messages a model sees: pure functions over a history.

A window keeps the system messages, the pinned ones, the newest summary and the newest
user message, holds tool calls and their results together, and moves in steps: its start
stays where it is for many turns, so that a server's prompt cache keeps its worth.
Stored messages are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from conversations.conversation import Conversation
from conversations.errors import ContextTooLong
from conversations.history import follow
from conversations.json_value import dumps
from conversations.message import Message, Role, StoredMessage
from conversations.token_estimate import PARTS, parts_in, whole_tokens

TOKENS_PER_IMAGE = 1000
"""Servers count 85 to 1,500 for a picture, by its size and detail."""
TOKENS_PER_MESSAGE = 4
"""What chat templates put around each message: role and delimiters."""


def estimate_tokens(message: Message) -> int:
    """Tokens that a message costs in a prompt, roughly."""
    return whole_tokens(estimate_parts((message,)))


def estimate_parts(messages: Iterable[Message]) -> int:
    """Tokens that messages cost in a prompt, roughly, in parts: they can be summed."""
    texts: list[str] = []
    around = 0
    for message in messages:
        around += TOKENS_PER_MESSAGE
        texts.append(message.content)
        if message.tool_calls or message.images or message.reasoning:
            around += TOKENS_PER_IMAGE * len(message.images)
            texts.append(message.reasoning or "")
            for call in message.tool_calls:
                texts += [call.name, dumps(call.arguments)]
    return PARTS * around + parts_in("".join(texts))


def tokens_of(message: Message) -> int:
    """Tokens that a message costs: as counted by the endpoint, else estimated."""
    return estimate_tokens(message) if message.tokens is None else message.tokens


@dataclass
class Group:
    """Messages that stand or fall together: one message, or calls with results."""

    place: int
    messages: tuple[Message, ...]
    awaits_results: bool = False
    """Its calls are the client's; their outputs begin the next turn."""

    @cached_property
    def tokens(self) -> int:
        """What its messages cost; most windows are bounded by their number alone."""
        return sum(map(tokens_of, self.messages))

    @property
    def first(self) -> Message:
        return self.messages[0]

    @property
    def is_kept(self) -> bool:
        """Shown wherever it stands."""
        return self.first.role is Role.SYSTEM or self.first.pinned


@dataclass(frozen=True)
class Window:
    """What a model is to see of a history."""

    before: tuple[Message, ...] = ()
    """Kept messages from before the cut."""
    summary: Message | None = None
    """What stands for the others from before the cut."""
    after: tuple[Message, ...] = ()
    """Everything after the cut."""
    cut: int = 0
    """The place up to which only what is kept is shown."""
    covered: int = 0
    """The place up to which the summary stands for what was said; 0 without one."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The window in order."""
        summary = () if self.summary is None else (self.summary,)
        return (*self.before, *summary, *self.after)


def visible_window(
    messages: Sequence[Message | StoredMessage],
    *,
    context_window: int,
    context_tokens: int | None = None,
) -> tuple[Message, ...]:
    """Return the messages of `choose_window`, in order."""
    return choose_window(
        messages, context_window=context_window, context_tokens=context_tokens
    ).messages


def choose_window(
    messages: Sequence[Message | StoredMessage],
    *,
    context_window: int,
    context_tokens: int | None = None,
) -> Window:
    """Choose the messages that a model is to see.

    At most `context_window` messages besides system messages, pinned ones and the
    newest summary, and at most `context_tokens` in all. Only those, the newest user
    message and calls at the very end that await their results are kept even when they
    alone exceed the bounds. What a summary covers is not shown. The start of the window
    is stable when the places of the messages are: pass stored messages, or the history
    from its first message.
    """
    if context_tokens is None and len(messages) < context_window:
        whole = _whole(messages)
        if whole is not None:
            return whole
    groups, summary, covered = _without_summarised(list(split_groups(messages)))
    if not groups:
        return Window(summary=summary, covered=covered)
    kept = [group for group in groups if group.is_kept]
    others = [group for group in groups if not group.is_kept]
    users = [group for group in others if group.first.role is Role.USER]
    places = tuple(_place(messages, index) for index in range(len(messages)))
    bounds = _Bounds(places=places, limit=context_window)
    if context_tokens is not None:
        taken = 0 if summary is None else tokens_of(summary)
        bounds = bounds.with_tokens(context_tokens - taken).without(kept)
    needed = [*users[-1:], *(g for g in others[-1:] if g.awaits_results)]
    cut = bounds.cut(others)
    if missing := [group for group in needed if group.place <= cut]:
        rest = [group for group in others if group not in missing]
        taken = sum(len(group.messages) for group in missing)
        cut = bounds.without(missing, messages=taken).cut(rest)
    if needed and needed[-1].awaits_results:
        cut = min(cut, needed[-1].place - 1)
    shown = [group.place for group in others if group.place > cut]
    cut = min(shown) - 1 if shown else max(cut, 0)
    always = {group.place for group in kept + users[-1:]}
    before = [group for group in groups if group.place in always and group.place <= cut]
    after = [group for group in groups if group.place > cut]
    return Window(_flat(before), summary, _flat(after), cut, covered)


def _whole(messages: Sequence[Message | StoredMessage]) -> Window | None:
    """Return the window of a history that fits and of which nothing is left out.

    None of another, and of one with a summary. It is cut before the first message that
    is not kept anyway.
    """
    shown = tuple(map(_message, messages))
    open_calls: set[str | None] = set()
    cut = len(shown)
    for index, message in enumerate(shown):
        if message.role is Role.TOOL:
            if message.tool_call_id not in open_calls:
                return None
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls or message.covers is not None:
            return None
        if message.tool_calls:
            open_calls.update(call.id for call in message.tool_calls)
        if index < cut and not (message.role is Role.SYSTEM or message.pinned):
            cut = index
    if cut == len(shown):
        return None
    place = _place(messages, cut)
    return Window(before=shown[:cut], after=shown[cut:], cut=place - 1)


def check_whole(
    head: Conversation, messages: Sequence[StoredMessage], window: Window
) -> None:
    """Check that the bounds leave nothing of a conversation out of its window.

    Raises:
        ContextTooLong: they do.
    """
    count, limit = head.message_count, head.config.context_window
    if count > limit and len(window.messages) < count:
        raise ContextTooLong(needed=count, limit=limit, unit="messages")
    needed, most = (
        sum(tokens_of(m.message) for m in messages),
        head.config.context_tokens,
    )
    if most is not None and needed > most:
        raise ContextTooLong(needed=needed, limit=most)


def _without_summarised(
    groups: Sequence[Group],
) -> tuple[list[Group], Message | None, int]:
    """Take the newest summary out, and what it or an older one stands for.

    Also tells up to which place: never beyond the summary's own, whatever it claims.
    It was made of another history when its conversation has begun anew meanwhile.
    """
    summaries = [group for group in groups if group.first.covers is not None]
    summary = summaries[-1] if summaries else None
    covered = min(summary.first.covers or 0, summary.place - 1) if summary else 0
    others = [group for group in groups if group.first.covers is None]
    users = [group for group in others if group.first.role is Role.USER]
    left = [
        group
        for group in others
        if group.place > covered or group.is_kept or group in users[-1:]
    ]
    return left, summary.first if summary else None, covered


def _flat(groups: Sequence[Group]) -> tuple[Message, ...]:
    return tuple(message for group in groups for message in group.messages)


@dataclass(frozen=True)
class _Bounds:
    """What the window must fit into."""

    places: tuple[int, ...]
    """Of all messages, in order; deleted ones have left gaps."""
    limit: int
    tokens: int | None = None

    def with_tokens(self, tokens: int) -> _Bounds:
        return _Bounds(self.places, self.limit, tokens)

    def without(self, groups: Sequence[Group], *, messages: int = 0) -> _Bounds:
        """What is left when these groups are kept anyway."""
        tokens = self.tokens
        if tokens is not None:
            tokens -= sum(group.tokens for group in groups)
        return _Bounds(self.places, self.limit - messages, tokens)

    def cut(self, groups: Sequence[Group]) -> int:
        """The place up to which nothing is shown, on the coarsest grid that serves.

        The grid's lines stand at multiples of half the limit, so that a window holds
        between half and all of it; where that would show nothing, the grid is finer.
        """
        step = max(1, self.limit // 2)
        while step:
            for cut in self._lines(step, groups):
                shown = [group for group in groups if group.place > cut]
                if shown and self._hold(shown):
                    return cut
            step //= 2
        return self.places[-1]

    def _lines(self, step: int, groups: Sequence[Group]) -> Iterator[int]:
        """Yield the grid's lines from the floor on that show different messages.

        There may be any number of others: places of a long history are far apart.
        """
        floor = self._floor()
        before = floor - 1
        for place in (floor, *(group.place for group in groups)):
            line = -(-place // step) * step
            if before < line < self.places[-1]:
                yield line
                before = line

    def _floor(self) -> int:
        """The lowest place after which there are no more than `limit` messages."""
        if self.limit < 1:
            return self.places[-1]
        if len(self.places) < self.limit:
            return 0
        return self.places[-self.limit] - 1

    def _hold(self, groups: Sequence[Group]) -> bool:
        return self.tokens is None or self.tokens >= sum(g.tokens for g in groups)


def _place(messages: Sequence[Message | StoredMessage], index: int) -> int:
    message = messages[index]
    return message.seq if isinstance(message, StoredMessage) else index + 1


def split_groups(messages: Sequence[Message | StoredMessage]) -> Iterator[Group]:
    """Yield the groups in order; leaves out what no server would accept.

    That is a tool result without its call, and a call without all its results unless
    it is the last.
    """
    index = 0
    while index < len(messages):
        first = index
        message = _message(messages[index])
        if message.role is not Role.TOOL and not message.tool_calls:  # as most are
            index += 1
            yield Group(_place(messages, first), (message,))
            continue
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
            place = _place(messages, first)
            yield Group(place, tuple(group), awaits_results=bool(open_calls))


def _message(message: Message | StoredMessage) -> Message:
    return message.message if isinstance(message, StoredMessage) else message
