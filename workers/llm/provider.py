"""What a model endpoint is to the rest of Celeriac: requests in, completions out.

Knows no HTTP; `chat_completions` speaks to a real endpoint, `scripted` answers from a
script in the same process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from conversations.json_value import JsonObject, dumps
from conversations.message import Message
from conversations.token_estimate import tokens_in
from orchestrator.task import StopReason, Usage

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_TOKENS_OF_A_TOOL = 16
"""What templates put around a tool's description and parameters."""


class ToolSpec(BaseModel):
    """A tool as the model sees it."""

    model_config = _FROZEN

    name: str
    """What the model calls it."""
    description: str = ""
    """What it does, for the model."""
    schema_: JsonObject = Field(alias="parameters", default_factory=dict)
    """JSON Schema of its arguments, an object."""
    client: bool = False
    """The client runs it, not this worker."""

    @cached_property
    def prompt_tokens(self) -> int:
        """What it takes of a prompt, roughly."""
        described = tokens_in(self.description)
        return _TOKENS_OF_A_TOOL + described + tokens_in(dumps(self.schema_))


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class CompletionRequest(BaseModel):
    """One question to a model."""

    model_config = _FROZEN

    messages: tuple[Message, ...]
    """The whole prompt, system message first."""
    model: str | None = None
    """The model; None takes the provider's default."""
    tools: tuple[ToolSpec, ...] = ()
    """The tools that it may call."""
    tool_choice: Literal["auto", "none", "required"] = "auto"
    """Whether it may, must not or must call one (some servers ignore it)."""
    forced_tool: str | None = None
    """The one tool that it must call, over `tool_choice`."""
    parallel_tool_calls: bool | None = None
    """Whether it may call several tools at once; None is not sent."""
    reasoning_effort: str | None = None
    """How much it is to think, in the endpoint's words; None is not sent."""
    temperature: float | None = None
    """Sampling temperature; None is not sent."""
    top_p: float | None = None
    """Nucleus sampling mass; None is not sent."""
    seed: int | None = None
    """Sampling seed; None is not sent."""
    frequency_penalty: float | None = None
    """Against words that were said often; None is not sent."""
    presence_penalty: float | None = None
    """Against words that were said at all; None is not sent."""
    stop: tuple[str, ...] = ()
    """Before these the answer ends, whether the server knows the field or not."""
    max_output_tokens: int | None = None
    """Token limit of the answer; None is not sent."""
    output_schema: JsonObject | None = None
    """JSON Schema of the answer; a server that knows none answers freely."""
    closing: StopReason | None = None
    """Of a run's last question: the limit that ends it. It is not sent."""
    timeout_seconds: float | None = None
    """Total time for the answer; None takes the provider's limit."""


class Completion(BaseModel):
    """A model's answer, the same whatever the server."""

    model_config = _FROZEN

    message: Message
    """The assistant's message; calls with unparsable arguments carry `{}`."""
    finish_reason: FinishReason = FinishReason.STOP
    """Why it ended; tool calls decide by their presence, not by this."""
    usage: Usage | None = None
    """Tokens as the endpoint counted them, where it did."""
    model: str = ""
    """The model that the endpoint says answered."""
    endpoint_wait_seconds: float | None = None
    """How long the endpoint says that it will take nothing more."""
    cost_micros: int = 0
    """What it cost by the endpoint's prices, in millionths."""
    gate_wait_seconds: float = 0.0
    """How long it waited at the gate before the model."""
    closing: StopReason | None = None
    """Of a run's last answer: the limit that ended it."""
    context_truncated: bool = False
    """The endpoint seems to have read only a part of the prompt."""
    invalid_arguments: Mapping[str, str] = Field(default_factory=dict)
    """Call id → what is wrong with the arguments that the model wrote for it."""


class TextDelta(NamedTuple):
    """A piece of a streamed answer; no model, which each token would pay for."""

    text: str = ""
    """More of the content."""
    reasoning: str = ""
    """More of the reasoning."""


class LLMProvider(Protocol):
    """Answers completion requests."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Return one completion.

        Raises:
            LLMError: a leaf that says what happened and whether to ask again.
        """
        ...

    def stream(
        self, request: CompletionRequest
    ) -> AsyncIterator[TextDelta | Completion]:
        """Yield pieces as they arrive and, last, the whole completion.

        Closing the iterator closes the request.

        Raises:
            LLMError: as `complete`.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
