"""The part of a task store's contract that keeps what a run does.

Every write names the run's lease; one whose fence is old changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.budget import Spent
from orchestrator.dues import Admitted, Dues, Needs
from orchestrator.events import NewEvent
from orchestrator.gate import Wait
from orchestrator.journal import Step, StepStart, Unfinished
from orchestrator.transition import Lease, Recorded, Started


class JournalStore(Protocol):
    """Keeps steps, start marks and events of runs."""

    async def record_step(
        self,
        lease: Lease,
        step: Step,
        events: Sequence[NewEvent] = (),
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
    ) -> Recorded:
        """Write a finished step and its events; the first writer of a key wins.

        Recording the same key again adds no event, and tells of the step that stands
        there when it is another. The run is above suspicion from now on. Its call's
        dues are paid in the same change, also when the lease is lost. A completion that
        follows at once is marked as begun along with it, as by `start_step`.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        """Mark a step as begun; recording it replaces the mark.

        A completion whose outcome is unknown counts as `maybe_paid`. A decision on the
        step is used up. Nothing happens to a finished step.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def admit_step(
        self, lease: Lease, start: StepStart, needs: Needs
    ) -> tuple[Admitted, Started] | Wait | Spent:
        """Let a completion begin and mark it, as by `start_step`; both or neither.

        Repeating it takes nothing more, as with a `Toll`.

        Raises:
            LeaseLost: the fence is old; nothing was taken.
        """
        ...

    async def drop_start(self, lease: Lease, key: str) -> None:
        """Remove this attempt's mark: the step is known to have had no effect.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def take_messages(self, lease: Lease, key: str) -> Step | None:
        """Journal the messages that steer this run as the step `key`; None without any.

        Their tasks are no more: repeating their submit returns this run's task.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def append_events(
        self,
        lease: Lease,
        events: Sequence[NewEvent],
        *,
        batch: str | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        """Add events to the log, and keep what a completion has said so far.

        That is part of what a turn without an answer leaves, unless the completion's
        step is recorded before. A repeat with the same `batch` (16 characters) soon
        after adds nothing: who lost the answer asks again with it.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def steps(
        self, tenant: str, task_id: str, *, keys: Sequence[str] | None = None
    ) -> tuple[Step, ...]:
        """Return the journal in order of recording, or those steps of it alone.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        ...
