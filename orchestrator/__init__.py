"""The orchestrator: submit agent tasks, read how they stand and how they end.

Names are imported on first use, so that `import orchestrator` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.agent_config import AgentConfig, AgentInfo
    from orchestrator.blocking import Orchestrator, TaskHandle
    from orchestrator.blocking import Orchestrator as TaskOrchestrator
    from orchestrator.blocking_chat import Chat
    from orchestrator.chat import AsyncChat
    from orchestrator.errors import (
        AgentNotFound,
        InvalidInput,
        OrchestratorError,
        TaskCancelled,
        TaskFailed,
        TaskNotFound,
        TaskTimedOut,
        WaitTimeout,
    )
    from orchestrator.events import EventType, TaskEvent
    from orchestrator.orchestrator import AsyncOrchestrator
    from orchestrator.request import SubmitRequest
    from orchestrator.settings import Settings, load_settings
    from orchestrator.store import TaskFilter
    from orchestrator.task import (
        RetryPolicy,
        Task,
        TaskFailure,
        TaskResult,
        TaskStatus,
        Usage,
    )
    from orchestrator.task_handle import AsyncTaskHandle

_HOMES = {
    "agent_config": ("AgentConfig", "AgentInfo"),
    "blocking": ("Orchestrator", "TaskHandle", "TaskOrchestrator"),
    "blocking_chat": ("Chat",),
    "chat": ("AsyncChat",),
    "errors": (
        "AgentNotFound",
        "InvalidInput",
        "OrchestratorError",
        "TaskCancelled",
        "TaskFailed",
        "TaskNotFound",
        "TaskTimedOut",
        "WaitTimeout",
    ),
    "events": ("EventType", "TaskEvent"),
    "orchestrator": ("AsyncOrchestrator",),
    "task_handle": ("AsyncTaskHandle",),
    "request": ("SubmitRequest",),
    "settings": ("Settings", "load_settings"),
    "store": ("TaskFilter",),
    "task": (
        "RetryPolicy",
        "Task",
        "TaskFailure",
        "TaskResult",
        "TaskStatus",
        "Usage",
    ),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AgentConfig",
    "AgentInfo",
    "AgentNotFound",
    "AsyncChat",
    "AsyncOrchestrator",
    "AsyncTaskHandle",
    "Chat",
    "EventType",
    "InvalidInput",
    "Orchestrator",
    "OrchestratorError",
    "RetryPolicy",
    "Settings",
    "SubmitRequest",
    "Task",
    "TaskCancelled",
    "TaskEvent",
    "TaskFailed",
    "TaskFailure",
    "TaskFilter",
    "TaskHandle",
    "TaskNotFound",
    "TaskOrchestrator",
    "TaskResult",
    "TaskStatus",
    "TaskTimedOut",
    "Usage",
    "WaitTimeout",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
