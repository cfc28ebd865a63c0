"""How a turn without an answer stands in the history: its question and a closing mark.

The mark is an assistant's message, so that the next question may follow it on the
strictest server; it holds what had been said and which way the turn ended. Knows no
task; `lua/append_functions.lua` writes the same for the Redis store.
"""

from __future__ import annotations

from collections.abc import Sequence

from conversations.message import Message, Role

CLOSING_NOTES = {
    "cancelled": "[This turn was cancelled before it ended.]",
    "failed": "[This turn failed before it ended.]",
    "timed_out": "[This turn ran out of time before it ended.]",
}
"""What the mark says, by the way in which the turn ended."""
CLOSED = "closed"
"""Metadata of the mark: the way in which the turn ended."""
MAX_SAID_BYTES = 64 * 1024
"""How much of an unfinished answer is kept, from its end, in whole pieces; of a newest
piece that is longer, its end."""


def closing_messages(
    asked: Sequence[Message], *, said: Sequence[str], ended: str
) -> tuple[Message, ...]:
    """Return the turn that is kept: what was asked, then the mark."""
    pieces: list[str] = []
    left = MAX_SAID_BYTES
    for piece in reversed([*said[:-1], *map(newest_part, said[-1:])]):
        left -= len(piece.encode("utf-8"))
        if left < 0:
            break
        pieces.insert(0, piece)
    content = "\n\n".join([*pieces, CLOSING_NOTES[ended]])
    mark = Message(role=Role.ASSISTANT, content=content, metadata={CLOSED: ended})
    return (*asked, mark)


def newest_part(text: str) -> str:
    """Return as much of a text's end as is kept."""
    encoded = text[-MAX_SAID_BYTES:].encode("utf-8")
    return encoded[-MAX_SAID_BYTES:].decode("utf-8", errors="ignore")


def closing_table() -> str:
    """Return the notes and the limit as Lua."""
    rows = [f"  {ended} = '{note}'," for ended, note in CLOSING_NOTES.items()]
    table = ["local CONVERSATION_CLOSING_NOTES = {", *rows, "}"]
    return "\n".join([*table, f"local CONVERSATION_MAX_SAID = {MAX_SAID_BYTES}", ""])
