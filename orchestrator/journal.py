"""The journal of a run: its finished steps, by key. Frozen values, no I/O."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from conversations.json_value import Json, Text
from orchestrator.task import Usage


class StepKind(StrEnum):
    """What a step did."""

    COMPLETION = "completion"
    TOOL_CALL = "tool_call"
    MESSAGES = "messages"
    CUSTOM = "step"


class Step(BaseModel):
    """One finished step; a resumed run reads it instead of doing it again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    key: Text = Field(min_length=1, max_length=512)
    """Names the step within the run; the same on every attempt."""
    kind: StepKind
    """What it did."""
    name: Text = ""
    """The model that answered, the tool called, or the step's own name."""
    outcome: Json = None
    """What it gave, in the form its kind defines."""
    said: Text | None = None
    """Its part of the answer; kept in the conversation when the run has no other."""
    usage: Usage = Usage()
    """Tokens it took."""
    seconds: float = Field(default=0.0, ge=0)
    """How long it took."""
    attempt: int = Field(default=0, ge=0)
    """The attempt that did it."""
    recorded_at: datetime | None = None
    """When it was recorded, by the store's clock; None before that."""
