"""What an agent is: the protocol, what it is given, what it gives back.

`RunContext` is all that an agent sees of the system; every completion, tool call and
named step that goes through it is journaled and is not done again on a later attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
)

from conversations.json_value import JsonObject, plain_json
from conversations.mending import mended
from conversations.message import Message, ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.prompt import opening_of, question_of
from orchestrator.task import StopReason, Task
from workers.llm.provider import Completion, CompletionRequest, ToolSpec
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolResult

__all__ = [
    "Agent",
    "AgentInput",
    "AgentResult",
    "RunContext",
    "ToolResult",
]

_FROZEN = ConfigDict(
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    hide_input_in_errors=True,
)


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
    context_tokens: int | None = None
    """Tokens that the messages of a prompt may take; None sets no bound."""

    def prompt(self) -> str:
        """Return the words for the model: a prompt field alone, else all as JSON."""
        return question_of(self.data).content

    def opening(self) -> tuple[Message, ...]:
        """Return the messages that the turn begins with."""
        return opening_of(self.data)


class AgentResult(BaseModel):
    """What an agent gives back."""

    model_config = _FROZEN

    content: Annotated[str, Strict(), AfterValidator(mended)] = ""
    """The answer as text; what no text may hold becomes U+FFFD."""
    output: Annotated[JsonValue, BeforeValidator(plain_json)] = None
    """The answer as data."""
    stop_reason: StopReason = StopReason.END_TURN
    """Why it stopped."""
    partial: bool = False
    """True when a limit stopped it before it was done."""
    messages: tuple[Message, ...] = ()
    """The turn for the conversation; empty: the prompt, what steered it, `content`."""


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

    async def take_messages(self) -> tuple[Message, ...]:
        """Return what users have said to this run since the last completion.

        To be asked before each completion, and to be added to the turn. An agent that
        never asks loses nothing: the messages become turns of their own.
        """
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

    async def hand_over(self, calls: Sequence[ToolCall]) -> None:
        """Tell viewers which calls the client is to make; the run ends with them."""
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
