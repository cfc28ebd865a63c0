"""A talk with one agent in one conversation: each question a task of its own.

Holds no history; the conversation does. Knows no store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Unpack
from uuid import uuid4

from pydantic import JsonValue

from orchestrator.events import TaskEvent
from orchestrator.request import SubmitOptions
from orchestrator.task import TaskResult

if TYPE_CHECKING:
    from orchestrator.orchestrator import AsyncOrchestrator
    from orchestrator.task_handle import AsyncTaskHandle

IN_PIECES: Final[dict[str, JsonValue]] = {"stream": True}
"""Parameters of a turn that is shown as it comes.

Whoever follows it from its submit on may still come after its completion was asked for.
"""


class AsyncChat:
    """Says something to an agent and reads its answer, in one conversation."""

    def __init__(
        self,
        orchestrator: AsyncOrchestrator,
        *,
        agent: str,
        conversation_id: str | None = None,
    ) -> None:
        """Continue a conversation, or begin one; it is created by its first turn."""
        self._orchestrator = orchestrator
        self.agent = agent
        self.conversation_id = conversation_id or f"conv-{uuid4().hex}"
        """What to continue this talk by."""
        self.task: AsyncTaskHandle | None = None
        """The newest turn."""

    async def submit(
        self, text: str, **options: Unpack[SubmitOptions]
    ) -> AsyncTaskHandle:
        """Say something and do not wait; `options` are those of a submit.

        Raises:
            ConversationBusy: with `when_busy="reject"`.
            InvalidInput, AgentNotFound, StoreUnavailable: as `submit` raises them.
        """
        options["conversation_id"] = self.conversation_id
        self.task = await self._orchestrator.submit(
            self.agent, {"prompt": text}, **options
        )
        return self.task

    async def send(
        self,
        text: str,
        *,
        timeout: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> TaskResult:
        """Say something and wait for the answer.

        Raises:
            TaskFailed, TaskCancelled, TaskTimedOut: the turn ended without one.
            WaitTimeout: it has not ended; it goes on.
        """
        return await (await self.submit(text, **options)).result(timeout=timeout)

    async def stream(
        self, text: str, **options: Unpack[SubmitOptions]
    ) -> AsyncIterator[TaskEvent]:
        """Say something and yield the turn's events as they come, up to its end.

        `text.delta` events hold the answer's pieces. Leaving early leaves the turn
        running; `interrupt` ends it.

        Raises:
            TaskFailed, TaskCancelled, TaskTimedOut: after the last event.
        """
        given = options.get("parameters", {})
        if isinstance(given, dict):  # else `submit` says what is wrong of it
            options["parameters"] = {**given, **IN_PIECES}
        handle = await self.submit(text, **options)
        async for event in handle.events():
            yield event
        await handle.result(timeout=0)

    async def interrupt(self) -> None:
        """Ask for the end of the newest turn; the talk goes on."""
        if self.task is not None:
            await self.task.cancel()
