"""Outputs of tools, which events hold the beginning of and the journal holds whole."""

from __future__ import annotations

from orchestrator.events import EventType, TaskEvent
from orchestrator.journal import call_key
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.task import Task

_CALL = "call-"
"""Begins the id of a call's item in the event log."""


async def with_whole_output(
    celeriac: AsyncOrchestrator, task: Task, event: TaskEvent
) -> TaskEvent:
    """Return the end of a call with all that the call gave, any other as it is.

    Raises:
        OrchestratorError: the journal cannot be read.
    """
    item = event.data.get("item")
    if event.type is not EventType.ITEM_DONE or not isinstance(item, dict):
        return event
    if "output_characters" not in item:
        return event
    key = call_key(str(item.get("id", "")).removeprefix(_CALL))
    steps = await celeriac.steps(task.id, keys=[key], tenant=task.tenant)
    outcome = steps[0].outcome if steps else None
    if not isinstance(outcome, dict):
        return event
    whole = {**item, "output": outcome.get("content", "")}
    return event.model_copy(update={"data": {**event.data, "item": whole}})
