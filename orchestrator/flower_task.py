"""How Flower shows a task: with the address of our page of it."""

from __future__ import annotations

from typing import Any

from orchestrator.settings import load_settings

_PAGE = load_settings().http.page_url


def format_task(task: Any) -> Any:
    """Name our page of the task where its arguments are shown, to be copied from there.

    Flower escapes what it shows, so that this cannot be a link.
    """
    if task.kwargs and str(task.name).startswith("agent."):
        task.kwargs = f"{task.kwargs}\n{_PAGE}/ui/tasks/{task.uuid}"
    return task
