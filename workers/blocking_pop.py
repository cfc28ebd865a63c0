"""The command by which a channel waits for messages, and how its wait is ended early.

Knows Redis's commands and answers; which queues are waited for is told by the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty
from select import POLLIN, poll
from time import monotonic
from typing import Any

UNBLOCK_SECONDS = 1.0
UNBLOCK_PAUSE_MILLISECONDS = 10


class BlockingPop:
    """The one pop of a channel: BLMPOP, or BRPOP where a server knows no other."""

    def __init__(
        self, *, refused: type[Exception], lost: tuple[type[BaseException], ...]
    ) -> None:
        """Make one that was not sent yet; the errors are those of kombu's client."""
        self._refused = refused
        self._lost = lost
        self._identified: object = None
        self.client_id: int | None = None
        """The connection's number, by which its pop can be ended."""
        self.takes_batches = True
        """False on Redis 6.2, which blocks for one message only."""

    def identify(self, connection: Any) -> None:
        """Learn the number of a connection that is new."""
        if connection._sock is self._identified:
            return
        connection.send_command("CLIENT", "ID")
        try:
            self.client_id = int(connection.read_response())
        except self._refused:
            self.client_id = None
        self._identified = connection._sock

    def send(
        self, connection: Any, keys: Sequence[str], *, seconds: float, most: int
    ) -> None:
        """Wait for at most so many messages of the first list that has any."""
        command: list[Any] = ["BRPOP", *keys, seconds]
        if self.takes_batches:
            command = ["BLMPOP", seconds, len(keys), *keys, "RIGHT", "COUNT", most]
        connection.send_command(*command)

    def read(self, connection: Any) -> tuple[bytes, list[bytes]]:
        """Return the key of a list and what was taken from it.

        Raises:
            Empty: nothing; or the server knows no BLMPOP, and is asked by BRPOP next.
        """
        try:
            reply = connection.read_response()
        except self._refused as exc:
            if self.takes_batches and "unknown command" in str(exc):
                self.takes_batches = False
                raise Empty from None
            connection.disconnect()
            raise
        except self._lost:
            connection.disconnect()
            raise
        if not reply:
            raise Empty
        return reply[0], reply[1] if self.takes_batches else [reply[1]]

    def end(self, connection: Any, client: Any) -> bool:
        """Have Redis answer at once; tell whether its answer is about to come.

        Asked over another client's connection: that of the pop is busy waiting.
        """
        give_up_at = monotonic() + UNBLOCK_SECONDS
        answer = poll()
        answer.register(connection._sock, POLLIN)
        while monotonic() < give_up_at:
            if client.client_unblock(self.client_id):
                return True
            if answer.poll(UNBLOCK_PAUSE_MILLISECONDS):
                return True
        return False
