"""What a run is given of a conversation: the window, and what to summarise first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from conversations.conversation import ConversationConfig
from conversations.message import Message, Role
from conversations.store import ConversationStore, WindowRead
from conversations.window import Window, check_whole, choose_window

MAX_SUMMARISED = 1000
"""Messages that one summary takes in at most, the newest ones."""


@dataclass(frozen=True, kw_only=True)
class ConversationView:
    """A conversation as a model is to see it."""

    window: Window = field(default_factory=Window)
    config: ConversationConfig = field(default_factory=ConversationConfig)
    to_summarise: tuple[Message, ...] = ()
    """With `compaction: summarise`, what the window has left out since the newest
    summary, which comes first; empty when nothing was."""
    seqs: tuple[int, ...] = ()
    """The numbers of the window's messages, in its order."""

    def messages(self, new_summary: Message | None = None) -> tuple[Message, ...]:
        """Return the window, with a new summary in the place of the old one."""
        summary = new_summary or self.window.summary
        return (
            *self.window.before,
            *(() if summary is None else (summary,)),
            *self.window.after,
        )


NO_CONVERSATION: Final = ConversationView()
"""What a run without one sees; made once."""


async def read_view(
    store: ConversationStore,
    tenant: str,
    conversation_id: str,
    *,
    read: WindowRead | None = None,
) -> ConversationView:
    """Read the window; one round trip unless something is to be summarised.

    What was `read` already costs none.

    Raises:
        ConversationNotFound: none of this tenant has the id.
        ContextTooLong: with `compaction: none`, the history exceeds the bounds.
    """
    head, messages = read or await store.read_window(tenant, conversation_id)
    config = head.config
    window = choose_window(
        messages,
        context_window=config.context_window,
        context_tokens=config.context_tokens,
    )
    if config.compaction == "none":
        check_whole(head, messages, window)
    numbers = {id(stored.message): stored.seq for stored in messages}
    seqs = tuple(numbers[id(message)] for message in window.messages)
    covered = window.covered
    if config.compaction != "summarise" or window.cut <= covered:
        return ConversationView(window=window, config=config, seqs=seqs)
    left_out = await store.read(
        tenant,
        conversation_id,
        limit=MAX_SUMMARISED,
        after=max(covered, window.cut - MAX_SUMMARISED),
        before=window.cut + 1,
    )
    fresh = [
        stored.message
        for stored in left_out
        if stored.message.role is not Role.SYSTEM and not stored.message.pinned
    ]
    older = (window.summary,) if window.summary and fresh else ()
    left = (*older, *fresh)
    return ConversationView(window=window, config=config, to_summarise=left, seqs=seqs)
