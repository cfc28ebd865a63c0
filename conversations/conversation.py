"""A conversation and its limits: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from conversations.json_value import Identifier, JsonObject, dumps

DEFAULT_MAX_MESSAGES = 1000
DEFAULT_CONTEXT_WINDOW = 50
MOST = 10**9
"""Messages or tokens; any Redis and any model are full before it."""
LONGEST_TTL_SECONDS = 10 * 366 * 86_400
"""Ten years."""

HIDDEN: Final = "hidden-"
"""Begins the id of a conversation that no listing shows: one made for a single task."""

Compaction = Literal["none", "drop", "summarise"]
OnFailure = Literal["keep_user", "drop"]


def new_hidden_id() -> str:
    """Return an id that no other conversation has."""
    return f"{HIDDEN}{uuid4().hex}"


def is_hidden_id(conversation_id: str | None) -> bool:
    """Tell whether a conversation of this id is hidden when a turn creates it."""
    return conversation_id is not None and conversation_id.startswith(HIDDEN)


class ConversationConfig(BaseModel):
    """How much history is kept and how much of it a model sees."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    max_messages: int | None = Field(default=DEFAULT_MAX_MESSAGES, ge=1, le=MOST)
    """Retention: oldest whole turns beyond it are dropped; None keeps all."""
    context_window: int = Field(default=DEFAULT_CONTEXT_WINDOW, ge=1, le=MOST)
    """Messages of history a model sees at most, system messages not counted."""
    context_tokens: int | None = Field(default=None, ge=1, le=MOST)
    """Tokens of messages a model sees at most, counted where the endpoint told, else
    estimated; None sets no bound."""
    compaction: Compaction = "drop"
    """What becomes of history that exceeds these bounds: left out (`drop`), summarised
    by the agent's model (`summarise`), or the run is refused (`none`)."""
    on_failure: OnFailure = "keep_user"
    """What a turn that failed or was cancelled leaves: its question and a closing mark
    with the answer so far, or nothing (`drop`)."""
    ttl_seconds: float | None = Field(default=None, gt=0, le=LONGEST_TTL_SECONDS)
    """Deleted when nothing was added or changed, and no turn begun, for so long; None
    keeps it for ever."""

    @model_validator(mode="after")
    def _window_within_retention(self) -> ConversationConfig:
        if self.max_messages is not None and self.context_window > self.max_messages:
            raise ValueError(
                f"context_window ({self.context_window}) must not exceed max_messages"
                f" ({self.max_messages}); lower context_window or raise max_messages"
            )
        return self


class Conversation(BaseModel):
    """The head of a conversation; its messages are read apart."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    id: Identifier = Field(default_factory=lambda: f"conv-{uuid4().hex}")
    """Names it within its tenant."""
    tenant: Identifier = "default"
    """Whose it is; another tenant's id is not found."""
    config: ConversationConfig = ConversationConfig()
    """Its limits."""
    metadata: JsonObject = Field(default_factory=dict)
    """The owner's facts about it; searchable by equality."""
    hidden: bool = False
    """Not listed; found by its id alone."""
    created_at: datetime | None = None
    """When it was created, by the store's clock; None before it is stored."""
    updated_at: datetime | None = None
    """When a message or metadata last changed."""
    last_seq: int = Field(default=0, ge=0)
    """Sequence number of the newest message; 0 when there is none."""
    dropped_messages: int = Field(default=0, ge=0)
    """Messages that retention has removed from the old end."""
    deleted_messages: int = Field(default=0, ge=0)
    """Messages that were deleted one by one; their numbers are not given out again."""

    @property
    def message_count(self) -> int:
        """How many messages are kept."""
        return self.last_seq - self.dropped_messages - self.deleted_messages

    def has_metadata(self, wanted: Mapping[str, JsonValue]) -> bool:
        """Tell whether the metadata holds every wanted pair."""
        return all(
            name in self.metadata and dumps(self.metadata[name]) == dumps(value)
            for name, value in wanted.items()
        )
