"""What a task says to its conversation, and who it is from. Pure, but for the hook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import JsonValue

from conversations.message import Message
from conversations.redaction import Redact, redacted
from orchestrator.journal import Step, StepKind
from orchestrator.prompt import question_of
from orchestrator.task import Task

SUBMITTED_BY: Final = "celeriac.submitted_by"
"""The key of metadata that names who submitted a task, where that is known."""


def said_with(task: Task, redact: Redact | None) -> Message:
    """Return what a task says; of one that may join another's run, also who says it.

    The record of a task that has joined a run is no more. What the hook leaves of the
    message decides nothing about who may do what: the sender is noted after it.

    Raises:
        RedactionFailed: the hook did.
    """
    message = redacted(question_of(task.input), redact)
    sender = task.metadata.get(SUBMITTED_BY)
    if task.when_busy != "steer" or sender is None:
        return message
    return message.model_copy(
        update={"metadata": {**message.metadata, SUBMITTED_BY: sender}}
    )


def senders_of(task: Task, steps: Iterable[Step]) -> Iterator[JsonValue]:
    """Yield who has submitted a task, and who has steered its run."""
    yield task.metadata.get(SUBMITTED_BY)
    for step in steps:
        messages = step.outcome if step.kind is StepKind.MESSAGES else None
        for message in messages if isinstance(messages, list) else ():
            facts = message.get("metadata") if isinstance(message, dict) else None
            if isinstance(facts, dict):
                yield facts.get(SUBMITTED_BY)
