"""How much may be spent, as configured. Frozen values, no I/O."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.settings_section import Count

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SpendingLimits(BaseModel):
    """What may be spent in a day, by UTC; None sets no bound."""

    model_config = _FROZEN

    daily_tokens: Count | None = Field(default=None, ge=1)
    """Tokens of prompts and answers in a day."""
    daily_cost: Decimal | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Money in a day, by the prices of the endpoints."""


class TaskBudget(BaseModel):
    """What one task may spend over all its attempts; None sets no bound."""

    model_config = _FROZEN

    tokens: Count | None = Field(default=None, ge=1)
    """Tokens of prompts and answers."""
    cost: Decimal | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Money, by the prices of the endpoints."""


class AgentBudget(TaskBudget, SpendingLimits):
    """What each task of an agent, and the agent in a day, may spend."""

    model_config = _FROZEN

    when_spent: Literal["wrap_up", "wait", "fail"] = "wrap_up"
    """`wrap_up` asks for a last short answer if it can be paid; `wait` parks the task
    until a person decides; `fail` ends it."""
