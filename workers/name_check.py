"""What in an agent's configuration nothing would ask for, or each run would fail on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.agent_config import AgentConfig
from orchestrator.settings_problems import did_you_mean
from workers.agents.kinds import KINDS
from workers.agents.run_options import RunOptions
from workers.agents.sampling import Sampling
from workers.errors import AgentFailed, InvalidAgent, LLMError


def check_names(config: AgentConfig, agent: object) -> None:
    """Refuse names that are doubled, or misspelt: an option that is not read.

    A `root` for `roots` would let an agent read more than it was to, silently. A class
    names its own options: one that is made of ours may read others.

    Raises:
        InvalidAgent: names the first.
    """
    known: Sequence[str] | None = vars(type(agent)).get("option_names")
    for name in config.options:
        if known is not None and name not in known:
            problem = f"options.{name} is unknown{did_you_mean(name, known)}"
            raise InvalidAgent(f"agent {config.name!r}: {problem}")
    for name in config.tools:
        if config.tools.count(name) > 1:  # endpoints refuse a prompt with both
            problem = f"tools: {name!r} stands twice; remove one"
            raise InvalidAgent(f"agent {config.name!r}: {problem}")
    codes = set(_codes(LLMError))
    for code in config.fallback_on:
        if code not in codes:
            problem = f"fallback_on: no failure has the code {code!r}"
            raise InvalidAgent(
                f"agent {config.name!r}: {problem}{did_you_mean(code, codes)}"
            )


def check_values(config: AgentConfig, agent: object) -> None:
    """Refuse options and default parameters that no run could be made with.

    Ours alone are checked: one that is made of them may read these otherwise.

    Raises:
        InvalidAgent: names the first.
    """
    if type(agent) not in KINDS.values():
        return
    try:
        if check := vars(type(agent)).get("check_options"):
            check(config.options)
        Sampling.of(config, config.parameters)
        RunOptions.of(config.parameters, taken=config.tools)
    except AgentFailed as exc:
        raise InvalidAgent(f"agent {config.name!r}: {exc}") from exc


def _codes(family: type[LLMError]) -> Iterator[str]:
    """Yield the codes of a family of errors, a user's own among them."""
    yield family.code
    for leaf in family.__subclasses__():
        yield from _codes(leaf)
