"""How a run samples: the agent's configuration overlaid with the task's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from conversations.json_value import JsonObject, Text
from conversations.message import Message
from conversations.trusted import changed, trusted
from orchestrator.agent_config import (
    MOST_OUTPUT_TOKENS,
    MOST_STOP_CHARACTERS,
    MOST_STOPS,
    AgentConfig,
)
from workers.errors import AgentFailed
from workers.llm.provider import CompletionRequest, ToolSpec


def _listed(stop: object) -> object:
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


StopSequences = Annotated[
    tuple[Annotated[Text, Field(min_length=1, max_length=MOST_STOP_CHARACTERS)], ...],
    Field(max_length=MOST_STOPS),
    BeforeValidator(_listed),
]
"""One or several, as OpenAI takes them."""


class Sampling(BaseModel):
    """The parameters that an agent sends to the model; it ignores others."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    model: Text | None = Field(default=None, min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: StopSequences | None = None
    """Where each answer of the model ends."""
    max_output_tokens: int | None = Field(default=None, ge=1, le=MOST_OUTPUT_TOKENS)
    parallel_tool_calls: bool | None = None
    reasoning_effort: Text | None = Field(default=None, min_length=1, max_length=64)

    @classmethod
    def of(cls, config: AgentConfig, parameters: JsonObject) -> Sampling:
        """Return what holds for a run; a parameter that is null is not sent.

        Raises:
            AgentFailed: a parameter has a wrong type or range; names it.
        """
        try:
            return cls.model_validate(_asked(config, parameters))
        except ValidationError as exc:
            fault = exc.errors(include_url=False)[0]
            name = fault["loc"][0]
            place = f"parameters.{name}" if name in parameters else name
            raise AgentFailed(
                f"{place}: {fault['msg']}"
                f" (got {type(fault['input']).__name__}); correct it or leave it out",
                code="invalid_parameters",
            ) from exc

    def request(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()
    ) -> CompletionRequest:
        """Return a question to the model; messages and tools are checked already."""
        return changed(self.empty_request, messages=tuple(messages), tools=tuple(tools))

    @cached_property
    def empty_request(self) -> CompletionRequest:
        """A request that asks nothing yet."""
        asked = self.model_dump(exclude_none=True)
        return trusted(CompletionRequest, messages=(), **asked)


def _asked(config: AgentConfig, parameters: JsonObject) -> JsonObject:
    return {
        name: parameters[name] if name in parameters else config.__dict__.get(name)
        for name in Sampling.model_fields
    }


class Samplings:
    """What holds for the runs of an agent; those that ask for the same share it."""

    def __init__(self) -> None:
        self._last: tuple[object, Sampling] | None = None

    def of(self, config: AgentConfig, parameters: JsonObject) -> Sampling:
        """Return what holds for a run.

        Raises:
            AgentFailed: a parameter has a wrong type or range; names it.
        """
        values = (*_asked(config, parameters).values(),)
        asked = values, (*map(type, values),)  # 1 is as good as True, and 1.0
        if self._last is None or self._last[0] != asked:
            self._last = asked, Sampling.of(config, parameters)
        return self._last[1]
