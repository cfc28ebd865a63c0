"""`tool_choice`: what a client says of the tools that the model may call. Pure.

It speaks of the client's own functions. Tools of the agent belong to the agent, as its
instructions do: a client that allows some of its functions leaves them alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import JsonValue

from orchestrator.http.facade.items import refuse

_WORDS: Final = ("auto", "none", "required")
_MODES: Final = ("auto", "required")
_ALLOWED: Final = "allowed_tools"


def tool_choice_of(
    choice: str | Mapping[str, Any] | None, functions: Collection[object]
) -> JsonValue:
    """Return the task's parameter; `functions` are the names that the client gave.

    Raises:
        Problem: it cannot be taken.
    """
    if choice is None or isinstance(choice, str):
        if choice is None or choice in _WORDS:
            return choice
    elif choice.get("type") == _ALLOWED:
        return _allowed(choice, functions)
    elif choice.get("type") == "function" and choice.get("name") in functions:
        return {"name": choice["name"]}
    raise refuse(
        "tool_choice",
        "must be auto, none, required, allowed_tools or one of the given functions",
    )


def _allowed(choice: Mapping[str, Any], functions: Collection[object]) -> JsonValue:
    mode, tools = choice.get("mode"), choice.get("tools")
    if mode not in _MODES:
        raise refuse("tool_choice.mode", "must be auto or required")
    if not isinstance(tools, list) or not tools:
        raise refuse("tool_choice.tools", "must be a list of at least one function")
    names: list[JsonValue] = []
    for tool in tools:
        given: Mapping[str, Any] = tool if isinstance(tool, dict) else {}
        name = given.get("name")
        if given.get("type") != "function" or name not in functions:
            raise refuse(
                "tool_choice.tools",
                "must name functions of this request's tools; an agent's own tools are"
                " in its configuration",
            )
        names.append(name)
    return {"mode": mode, "allowed": names}


def flat_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return a chat's choice as responses have it: there it is nested once more."""
    if not isinstance(choice, dict):
        return choice
    if isinstance(choice.get("function"), dict):
        return {"type": "function", "name": choice["function"].get("name")}
    allowed = choice.get(_ALLOWED)
    if not isinstance(allowed, dict):
        return choice
    tools = allowed.get("tools")
    if isinstance(tools, list):
        tools = [flat_choice(tool) for tool in tools]
    return {"type": choice.get("type"), "mode": allowed.get("mode"), "tools": tools}
