"""Calls of one script by many coroutines, sent as one.

Such a script takes what its callers have in common once and what is each one's own
behind it, and answers a list with an entry for each. Knows no script, nor how many an
answer serves: one that would become too large tells the rest to ask alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from hiredis import pack_command

from orchestrator.redis_line import Sending

MOST_CALLS: Final = 16
"""Sent as one; bounds how long the server is kept from other clients."""


class SharedCall(NamedTuple):
    """What the callers of a script have in common."""

    name: str
    keys: Sequence[str]
    arguments: Sequence[str | int]


class Head(NamedTuple):
    """The beginning of such a command, as it is sent."""

    parts: int
    text: bytes


def packed_parts(parts: Sequence[str | int]) -> bytes:
    """Pieces of a command as they are sent, without the line that counts them.

    Raises:
        ValueError, TypeError: one cannot be written.
    """
    packed: bytes = pack_command(tuple(parts))  # type: ignore[arg-type] # says: of one item
    return packed[packed.index(b"\n") + 1 :]


class JoinableSending(Sending):
    """One caller's call, which may be sent along with those of others."""

    __slots__ = ("head", "own", "parts")

    def __init__(
        self,
        head: Head,
        own: Sequence[str | int],
        answered: asyncio.Future[list[Any]],
    ) -> None:
        self.head = head
        self.parts = len(own)
        self.own = packed_parts(own)
        super().__init__([], answered, size=len(self.own))


class JointSending(Sending):
    """The calls of some callers as one command."""

    __slots__ = ("_callers",)

    def __init__(self, callers: Sequence[JoinableSending]) -> None:
        self._callers = callers
        head = callers[0].head
        count = head.parts + sum(caller.parts for caller in callers)
        own = b"".join([caller.own for caller in callers])
        command = b"*%d\r\n%b%b" % (count, head.text, own)
        super().__init__([command], callers[0].answered)

    def is_done(self) -> bool:
        return all(caller.is_done() for caller in self._callers)

    def give(self, answers: list[Any]) -> None:
        """Hand each caller its own answer, or the error of them all."""
        (answer,) = answers
        if isinstance(answer, Exception):
            for caller in self._callers:
                caller.give(answers)
            return
        for caller, own in zip(self._callers, answer, strict=True):
            caller.give([own])

    def fail(self, error: BaseException) -> None:
        for caller in self._callers:
            caller.fail(error)

    def drop(self) -> None:
        for caller in self._callers:
            caller.drop()


def joined(batch: Iterable[Sending]) -> list[Sending]:
    """A batch in which calls that have the same beginning are one."""
    sent: list[Sending] = []
    open_groups: dict[int, list[JoinableSending]] = {}
    groups: list[list[JoinableSending]] = []
    for sending in batch:
        if not isinstance(sending, JoinableSending):
            sent.append(sending)
            continue
        group = open_groups.get(id(sending.head))
        if group is None or len(group) == MOST_CALLS:
            group = open_groups[id(sending.head)] = []
            groups.append(group)
        group.append(sending)
    return [*sent, *map(JointSending, groups)]
