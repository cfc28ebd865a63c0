"""The tools that a process has, by name; calls that always end in a result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from pydantic import JsonValue

from conversations.json_value import dumps
from conversations.mending import mended
from conversations.message import ToolCall
from conversations.trusted import trusted
from workers.errors import InvalidAgent, ToolError, UnknownTool
from workers.llm.provider import ToolSpec
from workers.tools.tool import Tag, Tool, ToolContext, ToolResult

MAX_RESULT_BYTES = 64 * 1024
"""Text of one result that a model is shown; about 16,000 tokens of English."""
_BYTES_OF_A_CHARACTER = 4
"""In UTF-8, at most."""


class ToolRegistry:
    """Tools by name."""

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for item in tools:
            self.register(item)

    def register(self, tool_or_function: Tool | Callable[..., Any]) -> Tool:
        """Add a tool; a plain function becomes one, and its effect is `once`.

        Raises:
            InvalidAgent: the name is taken, or the function cannot be a tool.
        """
        added = (
            tool_or_function
            if isinstance(tool_or_function, Tool)
            else Tool(tool_or_function)
        )
        if added.name in self._tools:
            raise InvalidAgent(
                f"tool {added.name!r} is registered already; give one of them name="
            )
        self._tools[added.name] = added
        return added

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order of registration."""
        return tuple(self._tools)

    @property
    def tags(self) -> frozenset[Tag]:
        """What its tools bring together."""
        return frozenset(tag for tool in self._tools.values() for tag in tool.tags)

    def find_tool(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def get_tool(self, name: str) -> Tool:
        """Return a tool.

        Raises:
            UnknownTool: none has the name.
        """
        found = self._tools.get(name)
        if found is None:
            raise _unknown(name, self.names)
        return found

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """Return what a model is told about the named tools.

        Raises:
            UnknownTool: one of them is not registered.
        """
        return tuple(self.get_tool(name).spec for name in names)

    async def call(
        self, call: ToolCall, ctx: ToolContext, *, allowed: Collection[str]
    ) -> ToolResult:
        """Run a call that a model made; every tool error is a result for the model.

        Only names in `allowed` are run, whatever the model was told.
        """
        try:
            if call.name not in allowed:
                raise _unknown(call.name, allowed)
            output = await self.get_tool(call.name).call(call.arguments, ctx)
        except ToolError as exc:
            return ToolResult(call_id=call.id, content=_shown(str(exc)), error=exc.code)
        return result_of(call.id, output)


def result_of(call_id: str, output: JsonValue) -> ToolResult:
    """Return what a tool gave, which is plain JSON, as the model will read it."""
    if isinstance(output, str):
        return trusted(ToolResult, call_id=call_id, content=_shown(output))
    text = dumps(output)
    shown = _shown(text)
    kept = output if shown == text else None
    return trusted(ToolResult, call_id=call_id, content=shown, output=kept)


def _unknown(name: str, known: Iterable[str]) -> UnknownTool:
    listed = ", ".join(known) or "none"
    return UnknownTool(f"there is no tool {name[:64]!r}; the tools are: {listed}")


def _shown(text: str) -> str:
    text = mended(text)
    if _BYTES_OF_A_CHARACTER * len(text) <= MAX_RESULT_BYTES:
        return text
    data = text.encode("utf-8")
    if len(data) <= MAX_RESULT_BYTES:
        return text
    head = data[:MAX_RESULT_BYTES].decode("utf-8", "ignore")
    return (
        f"{head}\n[cut here: {MAX_RESULT_BYTES} of {len(data)} bytes are shown;"
        " ask for less]"
    )
