"""One message of a conversation and the tool calls in it: frozen values, no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from conversations.image import MAX_IMAGES, Image
from conversations.json_value import Identifier, JsonObject, Name, Text

MAX_SEQ = 2**52
"""Lua, which gives numbers out, counts exactly up to twice that."""


class Role(StrEnum):
    """Who speaks, in the words of the Chat Completions API."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(BaseModel):
    """A model's request to run one tool."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    id: Name = Field(min_length=1, max_length=256)
    """Names the call within its turn; the tool's result carries it back."""
    name: Name = Field(min_length=1, max_length=256)
    """The tool's name as the model wrote it."""
    arguments: JsonObject = Field(default_factory=dict)
    """The parsed arguments; `{}` where the model wrote something unparsable."""


def _text_alone(content: object) -> object:
    problem = ""
    if content is None:
        problem = "null is not taken; send text, or '' beside tool calls"
    elif isinstance(content, (list, tuple)):
        kinds = {part.get("type") for part in content if isinstance(part, dict)}
        problem = "a list of parts is not taken; join their texts"
        if kinds - {"text", "input_text", "output_text"}:
            problem = (
                "images, audio and files are not taken here; send the text alone,"
                " and images as `images`"
            )
    if problem:
        raise ValueError(problem)
    return content


Content = Annotated[Text, BeforeValidator(_text_alone)]
"""Plain text."""


class Message(BaseModel):
    """What one participant said; valid on its own, whatever surrounds it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    role: Role
    """Who speaks."""
    content: Content = ""
    """The text; may be empty only when an assistant calls tools or a tool is silent."""
    images: tuple[Image, ...] = Field(default=(), max_length=MAX_IMAGES)
    """Pictures that a user shows beside the text."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls an assistant makes, in order."""
    tool_call_id: Name | None = None
    """For a tool message: the call it answers."""
    reasoning: Text | None = None
    """An assistant's reasoning, kept apart from its content."""
    reasoning_field: Name | None = None
    """The name under which the endpoint sent the reasoning, to replay it so."""
    client_id: Identifier | None = None
    """Chosen by the writer; a second append with the same id adds nothing."""
    pinned: bool = False
    """Shown to the model however old it is."""
    covers: int | None = Field(default=None, ge=1, le=MAX_SEQ)
    """Makes a system message a summary: of the messages up to this number, which a
    model then no longer sees."""
    tokens: int | None = Field(default=None, ge=0, le=MAX_SEQ)
    """What it costs in a prompt, as the endpoint counted; None is estimated."""
    metadata: JsonObject = Field(default_factory=dict)
    """Facts about the message that no model sees."""

    @model_validator(mode="after")
    def _shape_fits_role(self) -> Message:
        if self.role is not Role.TOOL and self.is_plain and self.content.strip():
            return self
        self._require_role("tool_calls", Role.ASSISTANT)
        self._require_role("images", Role.USER)
        if (self.tool_call_id is not None) != (self.role is Role.TOOL):
            raise ValueError(
                "tool_call_id is required in a tool message and refused in any other"
            )
        self._require_role("reasoning", Role.ASSISTANT)
        self._require_role("covers", Role.SYSTEM)
        if self.pinned and (self.tool_calls or self.role is Role.TOOL):
            raise ValueError("pinned cannot be a message with tool calls or a result")
        ids = [call.id for call in self.tool_calls]
        if len(ids) != len(set(ids)):
            raise ValueError("tool_calls must have distinct ids within one message")
        empty_allowed = (
            self.role is Role.TOOL
            or (self.role is Role.ASSISTANT and self.tool_calls)
            or self.images
        )
        if not self.content.strip() and not empty_allowed:
            raise ValueError(
                f"content must not be blank in a message of role {self.role.value}"
            )
        return self

    @property
    def is_plain(self) -> bool:
        """Whether it is a text and nothing else, as most are: any role may say it."""
        return not (
            self.tool_calls
            or self.images
            or self.pinned
            or self.tool_call_id is not None
            or self.reasoning is not None
            or self.covers is not None
        )

    def _require_role(self, field: str, role: Role) -> None:
        if getattr(self, field) not in ((), None) and self.role is not role:
            verb = "stand" if field in {"tool_calls", "images"} else "stands"
            raise ValueError(
                f"{field} {verb} in {role.value} messages only, not in"
                f" {self.role.value}"
            )


class StoredMessage(BaseModel):
    """A message in its place in a conversation's log."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    seq: int = Field(ge=1, le=MAX_SEQ)
    """Its place, counted from 1, never reused."""
    turn: Identifier | None = None
    """The turn it entered with (a task id); None when added by hand."""
    created_at: AwareDatetime
    """When it was stored, by the store's clock."""
    message: Message
    """What was said."""
