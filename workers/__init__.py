"""Workers: run agents as Celery tasks.

`celery -A workers` finds the application here; names are imported on first use, so that
importing the package reads no settings and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.app import app as celery
    from workers.extensions import extend
    from workers.tools.tool import ToolContext, tool

_MODULE_OF = {
    "celery": "app",
    "extend": "extensions",
    "tool": "tools.tool",
    "ToolContext": "tools.tool",
}

__all__ = ["ToolContext", "celery", "extend", "tool"]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = import_module(f"{__name__}.{module}")
    return getattr(found, "app" if name == "celery" else name)
