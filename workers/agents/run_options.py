"""What one task may ask of its run beyond sampling: words, tools of the client's, form.

Tools that the client brings are shown to the model and never run here: a call of one
ends the task, and its output arrives with the next.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conversations.json_value import JsonObject, Text
from workers.errors import AgentFailed
from workers.llm.provider import ToolSpec

if TYPE_CHECKING:
    from workers.agents.structured import OutputFormat


class ClientTool(BaseModel):
    """A function that the client runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Text = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: Text | None = None
    parameters: JsonObject | None = None

    def spec(self) -> ToolSpec:
        """Return it as the model sees it."""
        return ToolSpec(
            name=self.name,
            description=self.description or "",
            parameters=self.parameters or {},
            client=True,
        )


class NamedTool(BaseModel):
    """The one tool that the model must call."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Text


class AllowedTools(BaseModel):
    """Those of the client's tools that are offered, and whether one must be called."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    allowed: list[Text] = Field(min_length=1, max_length=128)
    mode: Literal["auto", "required"] = "auto"


class RunOptions(BaseModel):
    """The parameters of a task that an `LLMAgent` obeys; it ignores others."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    instructions: Text | None = None
    """Stand after the agent's own."""
    tools: list[ClientTool] = Field(default_factory=list, max_length=128)
    """Functions that the client runs."""
    tool_choice: (
        Literal["auto", "none", "required"] | NamedTool | AllowedTools | None
    ) = None
    """Of the first completion; `none`, and which tools are allowed, holds for all."""
    max_tool_calls: int | None = Field(default=None, ge=0)
    """Within the agent's own limit."""
    output_schema: JsonObject | None = None
    """JSON Schema of the answer, over the agent's own."""

    @classmethod
    def of(cls, parameters: JsonObject, *, taken: Collection[str]) -> RunOptions:
        """Read a task's parameters; `taken` are the names of the worker's own tools.

        Raises:
            AgentFailed: one cannot be taken; names it.
        """
        if not parameters:
            return _NONE_GIVEN
        try:
            options = cls.model_validate(parameters)
        except ValidationError as exc:
            fault = exc.errors(include_url=False)[0]
            path = ".".join(str(part) for part in fault["loc"])
            raise _refused(
                path, f"{fault['msg']} (got {type(fault['input']).__name__})"
            ) from exc
        names = [tool.name for tool in options.tools]
        doubled = {name for name in names if names.count(name) > 1 or name in taken}
        if doubled:
            raise _refused("tools", f"{sorted(doubled)} name tools twice; rename them")
        choice = options.tool_choice
        if isinstance(choice, AllowedTools) and {*choice.allowed} - {*names}:
            unknown = sorted({*choice.allowed} - {*names})
            raise _refused("tool_choice.allowed", f"{unknown} are not in tools")
        return options

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The client's tools as the model sees them."""
        specs = (tool.spec() for tool in self.tools)
        if isinstance(self.tool_choice, AllowedTools):
            return tuple(s for s in specs if s.name in self.tool_choice.allowed)
        return tuple(specs)

    @property
    def must_call(self) -> Collection[str]:
        """Names of tools of which the first completion must call one; none: no matter.

        They alone are offered then: servers call any where one is required, and some
        (llama.cpp) where one is named.
        """
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            return (choice.name,)
        if isinstance(choice, AllowedTools) and choice.mode == "required":
            return choice.allowed
        return ()

    def output_format(self, usual: JsonObject | None) -> OutputFormat | None:
        """Return the form of the answer, `usual` being the agent's own schema.

        Raises:
            AgentFailed: the schema is none.
        """
        schema = self.output_schema or usual
        if schema is None:
            return None
        # Three MiB that a worker whose answers are all plain text does without.
        from workers.agents.structured import OutputFormat  # noqa: PLC0415

        return OutputFormat(schema)

    def first_choice(self) -> dict[str, str]:
        """Return the fields of the first completion's request that choose a tool."""
        if isinstance(self.tool_choice, NamedTool):
            return {"forced_tool": self.tool_choice.name}
        if self.must_call:
            return {"tool_choice": "required"}
        if self.tool_choice in ("required", "none"):
            return {"tool_choice": str(self.tool_choice)}
        return {}


_NONE_GIVEN = RunOptions()
"""Shared by the runs of all tasks without parameters, as most are."""


def _refused(field: str, reason: str) -> AgentFailed:
    return AgentFailed(
        f"parameters.{field}: {reason}; correct it or leave it out",
        code="invalid_parameters",
    )
