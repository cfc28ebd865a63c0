"""How a project adds its own agents and tools to the workers that it starts.

A module that `celery -A workers worker -I my_agents` imports marks a function with
`@extend`; every worker process calls it once, before the configured agents are built.
The list below is filled by imports alone, as Celery fills its list of tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Final

from orchestrator.errors import OrchestratorError
from workers.agent_manager import AgentManager
from workers.errors import InvalidAgent, WorkerError
from workers.own_code import what_failed
from workers.tools.registry import ToolRegistry

Extension = Callable[[AgentManager, ToolRegistry], None]
"""Registers tools and agents."""

_EXTENSIONS: Final[list[Extension]] = []


def extend(extension: Extension) -> Extension:
    """Have every worker process call `extension(manager, tools)` when it starts.

    Raises:
        InvalidAgent: it is `async`, which nobody would await.
    """
    is_async = map(iscoroutinefunction, (extension, type(extension).__call__))
    if any(is_async):
        name = getattr(extension, "__name__", type(extension).__name__)
        raise InvalidAgent(
            f"extension {name!r} is called while the worker starts,"
            " before its event loop; write `def` in place of `async def`"
        )
    _EXTENSIONS.append(extension)
    return extension


def apply_extensions(manager: AgentManager, tools: ToolRegistry) -> None:
    """Call all extensions in the order of their import.

    Raises:
        InvalidAgent: an agent or tool cannot be registered, or one of them failed.
    """
    for extension in _EXTENSIONS:
        try:
            extension(manager, tools)
        except (OrchestratorError, WorkerError):
            raise
        except Exception as exc:
            told = what_failed(exc, called=getattr(extension, "__code__", None))
            raise InvalidAgent(told) from exc
