"""The steps of a run as it goes on: those that are done, and how one is recorded.

Where the run stands is counted here, since that gives a step its key. Knows neither
model nor tool.
"""

from __future__ import annotations

from pydantic import JsonValue

from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Journal, Step, StepKind
from workers.run import Run
from workers.run_log import RunLog
from workers.run_steps import Taken, custom_step


class RecordedSteps(dict[str, Step | Taken]):
    """A run's finished steps by key: whole those that earlier attempts have left."""

    __slots__ = ("completion_count", "item_count", "log", "run")

    def __init__(self, run: Run, log: RunLog, journal: Journal) -> None:
        super().__init__({step.key: step for step in journal.steps})
        self.run = run
        """Whose steps they are."""
        self.log = log
        """Where they are recorded."""
        self.completion_count = 0
        """How many completions the run has come to."""
        self.item_count = 0
        """How many items it has come to: texts and calls, as viewers are shown them."""

    @property
    def next_completion(self) -> str:
        """The key of the completion that comes next."""
        return f"completion:{self.completion_count + 1}"

    def add(self, step: Step) -> None:
        """Keep what may still be asked of a step that was recorded now."""
        kept = step.outcome if step.kind is StepKind.TOOL_CALL else None
        self[step.key] = Taken(step.kind, step.usage, kept)

    async def record(
        self, step: Step, events: list[NewEvent], *, may_wait: bool = False
    ) -> None:
        """Record a step with its events."""
        with self.run.recording():
            done = await self.log.record(step, events, may_wait=may_wait)
            self.add(done)

    async def note(
        self,
        key: str,
        outcome: JsonValue,
        events: list[NewEvent],
        *,
        may_wait: bool = False,
    ) -> None:
        """Record what the run itself has done, unless an earlier attempt has."""
        if key not in self:
            name, attempt = key.partition(":")[0], self.run.task.attempt
            step = custom_step(key, name, outcome, attempt=attempt)
            await self.record(step, events, may_wait=may_wait)

    async def decided(self, step: Step) -> None:
        """Record what a person has decided, once it is obeyed."""
        await self.tell(step, decision=step.outcome)

    async def tell(self, step: Step, **facts: JsonValue) -> None:
        """Record a step that viewers are told by its name and these facts."""
        data: dict[str, JsonValue] = {"name": step.name, **facts}
        await self.record(step, [NewEvent(type=EventType.STEP_RECORDED, data=data)])
