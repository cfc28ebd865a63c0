"""Which implementations of agents there are, by the `kind` of a configuration.

Ours, and those that installed packages announce in the entry point group
`celeriac.agents`: a class or function that is called without arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from orchestrator.agent_config import AgentConfig
from workers.agents.agent import Agent
from workers.agents.llm_agent import LLMAgent
from workers.agents.researcher import ResearcherAgent
from workers.agents.summarizer import SummarizerAgent
from workers.errors import InvalidAgent

ENTRY_POINT_GROUP: Final = "celeriac.agents"

KINDS: Final[dict[str, Callable[[], Agent]]] = {
    "llm": LLMAgent,
    "researcher": ResearcherAgent,
    "summarizer": SummarizerAgent,
}


def build_agent(config: AgentConfig) -> Agent:
    """Make the agent that a configuration asks for; ours win over entry points.

    Raises:
        InvalidAgent: no such kind is known (lists those that are), or it cannot be
            loaded.
    """
    factory = KINDS.get(config.kind)
    if factory is not None:
        return factory()
    announced = entry_points(group=ENTRY_POINT_GROUP)
    if config.kind in announced.names:
        return _load(announced[config.kind], agent=config.name)
    known = ", ".join(sorted({*KINDS, *announced.names}))
    raise InvalidAgent(
        f"agent {config.name!r}: kind {config.kind!r} is not known; known are: {known}"
    )


def _load(announced: EntryPoint, *, agent: str) -> Agent:
    try:
        built: Agent = announced.load()()
    except Exception as exc:
        raise InvalidAgent(
            f"agent {agent!r}: kind {announced.name!r} ({announced.value}) cannot be"
            f" loaded: {type(exc).__name__}: {exc}"
        ) from exc
    if not callable(getattr(built, "run", None)):
        raise InvalidAgent(
            f"agent {agent!r}: kind {announced.name!r} ({announced.value}) gives a"
            f" {type(built).__name__}, which has no method run"
        )
    return built
