"""Which implementations of agents there are, by the `kind` of a configuration.

What an installed package announces is a class or function that is called without
arguments.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Final

from orchestrator.agent_config import AgentConfig
from orchestrator.agent_kinds import announced_kinds, unknown_kind
from workers.agents.agent import Agent
from workers.agents.llm_agent import LLMAgent
from workers.agents.researcher import ResearcherAgent
from workers.agents.summarizer import SummarizerAgent
from workers.errors import InvalidAgent

KINDS: Final[
    dict[str, type[LLMAgent] | type[ResearcherAgent] | type[SummarizerAgent]]
] = {
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
    problem = unknown_kind(config.kind)
    if problem is not None:
        raise InvalidAgent(f"agent {config.name!r}: {problem}")
    return _load(announced_kinds()[config.kind], agent=config.name)


def kind_of(agent: Agent, *, said: str) -> str:
    """Name what an agent is: what its configuration says, unless that is another's.

    An object that is none of ours is told by its class, as in `celeriac agents`.
    """
    if said not in KINDS:
        return said
    ours = [name for name, kind in KINDS.items() if type(agent) is kind]
    return ours[0] if ours else type(agent).__name__


def _load(announced: EntryPoint, *, agent: str) -> Agent:
    try:
        built: Agent = announced.load()()
    except Exception as exc:
        raise InvalidAgent(
            f"agent {agent!r}: kind {announced.name!r} ({announced.value}) cannot be"
            f" loaded: {type(exc).__name__}: {exc}"
        ) from exc
    if not can_run(built):
        raise InvalidAgent(
            f"agent {agent!r}: kind {announced.name!r} ({announced.value}) gives a"
            f" {type(built).__name__}, which has no method run"
        )
    return built


def can_run(agent: object) -> bool:
    """Whether it is an object with a method `run`; a class is none yet."""
    return not isinstance(agent, type) and callable(getattr(agent, "run", None))
