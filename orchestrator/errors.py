"""Errors of the orchestrator room.

OrchestratorError
├── InvalidInput            a field of a request cannot be taken
│   └── PayloadTooLarge     a field is larger than its limit
├── InvalidSettings         the configuration cannot be used
├── AgentNotFound           no such agent, with the nearest names
├── TaskNotFound            no such task for this tenant
├── UnreadableRecord        another release, or something else, wrote the task
├── IdempotencyConflict     the key was used for another request
├── InvalidTransition       the task's status does not allow it
├── LeaseLost               the run's fence is old; its writes are refused
├── StoreUnavailable        the store did not answer
│   ├── StoreFull           it is out of memory
│   ├── StoreReadOnly       it is a replica, or cannot write
│   ├── StoreUnfit          it would lose what it is given
│   └── StoreUnreadable     something else wrote what is no text
├── QueueUnavailable        the broker did not take a message
├── ServiceDisabled         the configuration switches the service off
├── OrchestratorClosed      used after close, or in a forked child
├── WrongLoop               used on another event loop than at first
├── LoopWouldBlock          a blocking call in a coroutine of a worker
├── WaitTimeout             the task has not ended yet
└── TaskEndedWithoutResult  the task ended, but not with an answer
    ├── TaskFailed
    ├── TaskCancelled
    └── TaskTimedOut
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conversations.shown_path import shown_path

if TYPE_CHECKING:
    from orchestrator.task import Task


_NAMED_IDS = 3
"""Written out in a message; all are in its attribute."""
_LONGEST_IDENTIFIER = 100
"""Of what is shown; ids are shorter."""


class OrchestratorError(Exception):
    """Anything that the orchestrator refuses or reports."""

    accepted: tuple[str, ...] = ()
    """Ids of the tasks that a `submit_many` had accepted when this stopped it."""


def tell_accepted(error: Exception, task_ids: Sequence[str], *, of: int) -> None:
    """Let the error of a submit of many tasks name those that are accepted."""
    if not task_ids or of < 2:
        return
    more = len(task_ids) - _NAMED_IDS
    named = ", ".join(task_ids[:_NAMED_IDS]) + (f" and {more} more" if more > 0 else "")
    text = f"{error}; {len(task_ids)} of {of} tasks are accepted all the same: {named}"
    error.args = (text,)
    if isinstance(error, OrchestratorError):
        error.accepted = tuple(task_ids)


def _path_within(name: str, index: int, field: str) -> str:
    # What two fields ask of each other names none.
    return f"{name}[{index}]" + (f".{field}" if field else "")


class InvalidInput(OrchestratorError, ValueError):
    """A field of a request cannot be taken."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field = shown_path(field)
        self.reason = reason
        super().__init__(f"{field}: {reason}" if field else reason)

    def within(self, index: int, *, name: str = "requests") -> InvalidInput:
        """Return the error as that of one request of many."""
        return InvalidInput(_path_within(name, index, self.field), self.reason)


class PayloadTooLarge(InvalidInput):
    """A field is larger than its limit; both sizes are in bytes."""

    def __init__(self, field: str, *, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            field,
            f"{size} bytes exceed the limit of {limit};"
            " pass a reference such as a path instead",
        )

    def within(self, index: int, *, name: str = "requests") -> PayloadTooLarge:
        """Return the error as that of one request of many."""
        field = _path_within(name, index, self.field)
        return PayloadTooLarge(field, size=self.size, limit=self.limit)


class InvalidSettings(OrchestratorError):
    """The configuration cannot be used; each problem names its path."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class AgentNotFound(OrchestratorError):
    """No agent of this name is configured or was ever announced."""

    def __init__(self, name: str, *, nearest: Sequence[str] = ()) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        hint = (
            f"did you mean {' or '.join(repr(n) for n in self.nearest)}?"
            if self.nearest
            else "`celeriac agents` lists the known ones"
        )
        super().__init__(f"agent {shown(name)} is not known; {hint}")


def shown(identifier: str) -> str:
    """Return an identifier that somebody gave, quoted, and cut when it is none."""
    if len(identifier) <= _LONGEST_IDENTIFIER:
        return repr(identifier)
    return f"{identifier[:_LONGEST_IDENTIFIER]!r}… ({len(identifier)} characters)"


class TaskNotFound(OrchestratorError):
    """No task of this tenant has this id (or it expired)."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"task {shown(task_id)} was not found;"
            " it may have expired or belong to another tenant"
        )


class UnreadableRecord(OrchestratorError):
    """The task is stored in a form that this release does not know."""

    def __init__(self, schema: str) -> None:
        super().__init__(
            f"the task's record of schema {schema[:20]!r} cannot be read; use the"
            " release that wrote it, or find who else writes to our keys"
        )


class IdempotencyConflict(OrchestratorError):
    """The idempotency key was used for a request with another body."""

    def __init__(self, key: str, *, task_id: str) -> None:
        self.key = key
        self.task_id = task_id
        super().__init__(
            f"idempotency_key {key!r} belongs to task {task_id} with another request;"
            " use a new key or send the same request"
        )


class InvalidTransition(OrchestratorError):
    """The task's status does not allow what was asked."""

    def __init__(self, task_id: str, *, status: str, wanted: str) -> None:
        self.task_id = task_id
        self.status = status
        super().__init__(f"task {task_id} is {status} and cannot become {wanted}")


class LeaseLost(OrchestratorError):
    """Another attempt holds the task; this run's writes are refused."""

    def __init__(self, task_id: str, *, fence: int) -> None:
        self.task_id = task_id
        self.fence = fence
        super().__init__(f"attempt {fence} of task {task_id} no longer holds its lease")


class StoreUnavailable(OrchestratorError):
    """The store did not answer in time, or refused the connection."""

    may_pass = False
    """Whether to wait may help: it is restarting, loading its data, or out of reach."""


class StoreFull(StoreUnavailable):
    """The store is out of memory and refuses writes."""


class StoreReadOnly(StoreUnavailable):
    """The store is a replica or cannot persist, and refuses writes."""


class StoreUnfit(StoreUnavailable):
    """The store answers, but would lose or not order what it is trusted with."""


class StoreUnreadable(StoreUnavailable):
    """The store holds what is no text in place of ours; asking again does not help."""


class QueueUnavailable(OrchestratorError):
    """The broker did not take a message; the sweeper rings again."""


class ServiceDisabled(OrchestratorError):
    """The configuration switches this service off."""

    def __init__(self, service: str) -> None:
        self.service = service
        super().__init__(
            f"the {service} service is disabled;"
            f" set services.{service}.enabled: true to use it"
        )


class OrchestratorClosed(OrchestratorError):
    """The orchestrator was closed, or belongs to the process that forked this one."""

    def __init__(self) -> None:
        super().__init__(
            "this orchestrator is closed or was made before a fork;"
            " make a new Orchestrator() in this process"
        )


class WrongLoop(OrchestratorError):
    """Connections belong to the event loop on which they were made."""

    def __init__(self) -> None:
        super().__init__(
            "this AsyncOrchestrator was used on another event loop before; make one"
            " within each asyncio.run(), or use Orchestrator(), which has its own loop"
        )


class LoopWouldBlock(OrchestratorError):
    """A blocking call came from a coroutine on a loop that runs tasks."""

    def __init__(self) -> None:
        super().__init__(
            "a blocking call here would stop every run of this worker, also the one"
            " that it waits for; await AsyncOrchestrator() instead, or make the tool a"
            " plain function"
        )


class WaitTimeout(OrchestratorError, TimeoutError):
    """The task has not ended within the wait; it goes on."""


class TaskEndedWithoutResult(OrchestratorError):
    """The task ended without an answer; `task` is its record."""

    def __init__(self, task: Task) -> None:
        self.task = task
        failure = task.failure
        reason = f" ({failure.code}): {failure.message}" if failure else ""
        super().__init__(f"task {task.id} {task.status.value}{reason}")


class TaskFailed(TaskEndedWithoutResult):
    """The task failed; `task.failure` says why."""


class TaskCancelled(TaskEndedWithoutResult):
    """The task was cancelled."""


class TaskTimedOut(TaskEndedWithoutResult):
    """The task reached its time limit without an answer."""
