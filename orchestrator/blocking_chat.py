"""A talk for synchronous callers: signatures, no logic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Unpack

from orchestrator.chat import AsyncChat
from orchestrator.events import TaskEvent
from orchestrator.request import SubmitOptions
from orchestrator.task import TaskResult

Await = Callable[[Coroutine[Any, Any, Any]], Any]
Iterate = Callable[[AsyncIterator[TaskEvent]], Iterator[TaskEvent]]


class Chat:
    """Each method does what `AsyncChat`'s of the same name does."""

    def __init__(self, chat: AsyncChat, *, await_: Await, iterate: Iterate) -> None:
        self._chat = chat
        self._await = await_
        self._iterate = iterate
        self.agent = chat.agent
        self.conversation_id = chat.conversation_id
        """What to continue this talk by."""

    def send(
        self,
        text: str,
        *,
        timeout: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> TaskResult:
        """Say something and wait for the answer."""
        result: TaskResult = self._await(
            self._chat.send(text, timeout=timeout, **options)
        )
        return result

    def stream(
        self, text: str, **options: Unpack[SubmitOptions]
    ) -> Iterator[TaskEvent]:
        """Say something and yield the turn's events as they come, up to its end."""
        return self._iterate(self._chat.stream(text, **options))

    def interrupt(self) -> None:
        """Ask for the end of the newest turn; the talk goes on."""
        self._await(self._chat.interrupt())
