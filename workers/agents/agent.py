"""What an agent is: the protocol, what it is given, what it gives back.

`RunContext` is all that an agent sees of the system; every completion, tool call and
named step that goes through it is journaled and is not done again on a later attempt.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from conversations.json_value import Json, JsonObject, Text
from conversations.message import Message, ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.task import StopReason, Task
from workers.llm.provider import Completion, CompletionRequest, ToolSpec
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolResult

__all__ = [
    "PROMPT_FIELDS",
    "Agent",
    "AgentInput",
    "AgentResult",
    "RunContext",
    "ToolResult",
]

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

PROMPT_FIELDS = ("prompt", "query", "question", "message", "text", "input")
"""Where a task's input may hold the words for the model, in order of preference."""


class AgentInput(BaseModel):
    """What an agent works on."""

    model_config = _FROZEN

    data: JsonObject = Field(default_factory=dict)
    """The task's input."""
    context: JsonObject = Field(default_factory=dict)
    """Facts about the caller, for tools."""
    parameters: JsonObject = Field(default_factory=dict)
    """The agent's defaults overlaid with the task's parameters."""
    messages: tuple[Message, ...] = ()
    """The conversation so far, as far as the window shows it; without this turn."""

    def prompt(self) -> str:
        """Return the words for the model: a prompt field alone, else all as JSON."""
        for field in PROMPT_FIELDS:
            value = self.data.get(field)
            if isinstance(value, str) and value.strip() and len(self.data) == 1:
                return value
        return json.dumps(self.data, ensure_ascii=False, indent=2)


class AgentResult(BaseModel):
    """What an agent gives back."""

    model_config = _FROZEN

    content: Text = ""
    """The answer as text."""
    output: Json = None
    """The answer as data."""
    stop_reason: StopReason = StopReason.END_TURN
    """Why it stopped."""
    partial: bool = False
    """True when a limit stopped it before it was done."""
    messages: tuple[Message, ...] = ()
    """The turn for the conversation; empty: the prompt and `content`."""


class RunContext(Protocol):
    """One run of an agent, seen from inside."""

    @property
    def task(self) -> Task:
        """The task as claimed."""
        ...

    @property
    def config(self) -> AgentConfig:
        """The agent's configuration."""
        ...

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that the agent may call."""
        ...

    @property
    def wrapping_up(self) -> bool:
        """True once the soft limit was told: no more tools, answer now."""
        ...

    def remaining_seconds(self) -> float:
        """Seconds until the soft limit; infinite without one, never negative."""
        ...

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask the model, once per place in the run.

        Raises:
            LLMError: the endpoint's error.
            SoftTimeLimitReached: once, when the soft limit passes; ask again to close.
        """
        ...

    async def call_tool(
        self, call: ToolCall, *, registry: ToolRegistry | None = None
    ) -> ToolResult:
        """Run a tool; its errors are results for the model.

        `registry` holds tools that live in this run only, all of which may be called;
        None takes the worker's tools, of which the configuration names the allowed.

        Raises:
            SoftTimeLimitReached: once, when the soft limit passes.
        """
        ...

    async def step(
        self, name: str, function: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        """Do a named step of one's own, once; later attempts get its outcome.

        Raises:
            SoftTimeLimitReached: once, when the soft limit passes.
        """
        ...

    async def progress(self, message: str, **facts: JsonValue) -> None:
        """Tell viewers how far the run is."""
        ...


class Agent(Protocol):
    """Does the work of a task."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        """Work on the input until there is an answer.

        Raises:
            AgentFailed: there is none and another attempt would not help.
            LLMError: the endpoint's error; the retry policy decides.
        """
        ...
