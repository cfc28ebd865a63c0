"""Agents that a stranger's text could make give private data away.

It takes three things in one agent: private data, text that others wrote, and a way out
(https://simonwillison.net/2025/Jun/16/lethal-trifecta/). Tools say which they bring.
"""

from __future__ import annotations

import logging
from typing import get_args

from orchestrator.agent_config import AgentConfig
from workers.errors import InvalidAgent
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tag

logger = logging.getLogger(__name__)


def check_tags(
    config: AgentConfig, agent: object, tools: ToolRegistry, *, strict: bool
) -> None:
    """Warn of an agent that combines all three.

    Raises:
        InvalidAgent: it does, and `strict` says to refuse it.
    """
    bringers: dict[str, list[str]] = {tag: [] for tag in get_args(Tag)}
    for name in config.tools:
        for tag in tools.get_tool(name).tags:
            bringers[tag].append(name)
    for tag in getattr(agent, "tool_tags", ()):
        bringers[tag].append("its own tools")
    if not all(bringers.values()):
        return
    told = "; ".join(f"{tag}: {', '.join(names)}" for tag, names in bringers.items())
    message = (
        f"agent {config.name!r} can be made to give private data away by what it reads"
        f" ({told}); take one of the three out of it"
    )
    if strict:
        raise InvalidAgent(message)
    logger.warning(message, extra={"agent": config.name})
