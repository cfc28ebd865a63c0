"""A journal as stored text: one entry for each step.

An entry is `<place> <milliseconds> <step>`, or `? <milliseconds> <attempt> <start>`, or
`! <milliseconds> <decision>`; the last part of each is JSON. Knows no store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from conversations.closing import newest_part
from conversations.errors import RedactionFailed
from conversations.json_value import written
from conversations.redaction import Redact, redacted, redacted_text
from orchestrator.journal import (
    EMPTY_JOURNAL,
    SUMMARY_KEY,
    Decision,
    Journal,
    Step,
    StepStart,
    summary_of,
)
from orchestrator.task_record import instant


def step_text(step: Step, *, attempt: int) -> str:
    """A step as the journal keeps it, without its instant."""
    if step.attempt != attempt:
        step = step.model_copy(update={"attempt": attempt})
    rare = set() if step.shown_as else {"shown_as"}
    return written(step, exclude={"recorded_at", *rare})


def redacted_step(step: Step, redact: Redact | None) -> Step:
    """A step whose part of the answer, or summary, may enter a conversation."""
    if redact is None:
        return step
    if step.key == SUMMARY_KEY:
        made = summary_of(step.outcome)
        if made is None:
            return step
        summary = redacted(made, redact)
        kept = summary.model_dump(mode="json", exclude_defaults=True)
        return step.model_copy(update={"outcome": kept})
    if step.said is None:
        return step
    return step.model_copy(update={"said": redacted_text(step.said, redact)})


def kept_unfinished(text: str, redact: Redact | None) -> str:
    """What may be kept of an answer that is not whole: its newest part, or nothing.

    A hook that cannot take a piece of an answer is asked again when that is whole.
    """
    if not text.strip():
        return ""
    try:
        return newest_part(redacted_text(text, redact))
    except RedactionFailed:
        return ""


def start_text(start: StepStart, *, attempt: int) -> str:
    """A start mark as the journal keeps it, without its instant."""
    if start.attempt != attempt:
        start = start.model_copy(update={"attempt": attempt})
    return written(start, exclude={"started_at"})


def decision_text(decision: Decision) -> str:
    """A decision as the journal keeps it."""
    return decision.model_dump_json(exclude={"decided_at"})


def step_from_entry(entry: str) -> Step:
    """Read `<place> <milliseconds> <step JSON>`."""
    _place, recorded, text = entry.split(" ", 2)
    return Step.model_validate({**json.loads(text), "recorded_at": instant(recorded)})


def earlier_step(entry: str, *, text: str) -> Step | None:
    """Read the entry of a step that was just written; None when it is that text.

    That of this call comes without its text, which may be long.
    """
    _place, _recorded, *stored = entry.split(" ", 2)
    return step_from_entry(entry) if stored and stored != [text] else None


def journal_from_entries(entries: Mapping[str, str]) -> Journal:
    """Read a whole journal."""
    if not entries:
        return EMPTY_JOURNAL
    finished, starts, decisions = [], [], []
    for entry in entries.values():
        if entry.startswith("?"):
            starts.append(_start(entry))
        elif entry.startswith("!"):
            decisions.append(_decision(entry))
        else:
            finished.append(entry)
    finished.sort(key=lambda entry: int(entry.split(" ", 1)[0]))
    return Journal(
        steps=tuple(step_from_entry(entry) for entry in finished),
        starts=tuple(starts),
        decisions=tuple(decisions),
    )


def take_mark(entries: dict[str, str], key: str, *, attempt: int) -> bool:
    """Take the mark of a step out that an attempt has written; tell whether it had."""
    entry = entries.get(key, "")
    if not entry.startswith("?") or entry.split(" ", 3)[2] != f"{attempt}":
        return False
    del entries[key]
    return True


def _decision(entry: str) -> Decision:
    _mark, decided, text = entry.split(" ", 2)
    return Decision.model_validate({**json.loads(text), "decided_at": instant(decided)})


def _start(entry: str) -> StepStart:
    _mark, started, _attempt, text = entry.split(" ", 3)
    return StepStart.model_validate(
        {**json.loads(text), "started_at": instant(started)}
    )
