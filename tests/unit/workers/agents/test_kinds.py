from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.agent_config import AgentConfig
from orchestrator.agent_kinds import OUR_KINDS
from orchestrator.settings import Settings
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import Agent, AgentInput, AgentResult, RunContext
from workers.agents.kinds import KINDS, build_agent
from workers.agents.llm_agent import LLMAgent
from workers.agents.researcher import ResearcherAgent
from workers.agents.summarizer import SummarizerAgent
from workers.errors import InvalidAgent
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry


@pytest.fixture
def installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A distribution that announces agents, as pip would have installed it."""
    (tmp_path / "acme_agents.py").write_text(
        "class Poet:\n"
        "    async def run(self, ctx, agent_input): ...\n"
        "def broken(): raise RuntimeError('no rhyme')\n"
        "def nothing(): return 7\n"
    )
    info = tmp_path / "acme_agents-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-agents\n")
    (info / "entry_points.txt").write_text(
        "[celeriac.agents]\n"
        "poet = acme_agents:Poet\n"
        "broken = acme_agents:broken\n"
        "nothing = acme_agents:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_agents", None)


@pytest.mark.parametrize(
    ("kind", "agent"),
    [
        ("llm", LLMAgent),
        ("researcher", ResearcherAgent),
        ("summarizer", SummarizerAgent),
    ],
)
def test_kinds_of_our_own_are_built(kind: str, agent: type) -> None:
    assert type(build_agent(AgentConfig(name="a", kind=kind))) is agent


@pytest.mark.usefixtures("installed_package")
def test_kinds_of_installed_packages_are_built() -> None:
    assert type(build_agent(AgentConfig(name="a", kind="poet"))).__name__ == "Poet"


@pytest.mark.usefixtures("installed_package")
def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidAgent, match=r"kind 'painter' is not known; known are .*llm.*poet"
    ):
        build_agent(AgentConfig(name="a", kind="painter"))


@pytest.mark.usefixtures("installed_package")
def test_settings_know_the_kinds_without_importing_them() -> None:
    settings = Settings(agents={"a": {"kind": "broken"}})
    assert settings.agents["a"].kind == "broken"
    assert "acme_agents" not in sys.modules
    with pytest.raises(ValidationError, match=r"agents.a: kind 'peot'.*mean poet\?"):
        Settings(agents={"a": {"kind": "peot"}})


class Parrot:
    """An agent of somebody else's."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        return AgentResult(content=agent_input.prompt())


class Polite(LLMAgent):
    """One of ours, changed."""


@pytest.mark.parametrize(
    ("agent", "said", "kind"),
    [
        (None, "researcher", "researcher"),
        (LLMAgent(instructions="Be kind."), "llm", "llm"),
        (ResearcherAgent(), "llm", "researcher"),
        (Parrot(), "llm", "Parrot"),
        (Parrot(), "bird", "bird"),
        (Polite(), "llm", "Polite"),
    ],
)
def test_an_object_is_told_as_what_it_is(
    agent: Agent | None, said: str, kind: str
) -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    manager.register_agent(AgentConfig(name="a", kind=said), agent)
    assert manager.get_config("a").kind == kind


@pytest.mark.parametrize("config", ["x", None, {"name": "x"}, AgentConfig])
def test_what_is_no_configuration_is_refused_with_the_remedy(config: object) -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    with pytest.raises(InvalidAgent, match=r"got .*give it AgentConfig\(name=…\)"):
        manager.register_agent(config)


@pytest.mark.parametrize("agent", [Parrot, "LLMAgent", 7])
def test_what_is_no_agent_is_refused_with_the_remedy(agent: object) -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    with pytest.raises(InvalidAgent, match=r"agent 'a': .* is no agent; give an obj"):
        manager.register_agent(AgentConfig(name="a"), agent)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            {"soft_time_limit_seconds": 5, "time_limit_seconds": 4},
            r"'a': its soft limit \(5s\).* \(4s\)",
        ),
        ({"max_output_tokens": 2**31 + 1}, "max_output_tokens 2147483649 exceeds"),
    ],
)
def test_limits_that_cannot_hold_are_refused_at_registration(
    limits: dict[str, int], told: str
) -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    config = AgentConfig(name="a", **limits)
    with pytest.raises(InvalidAgent, match=told):
        manager.register_agent(config)
    assert manager.names == ()


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "nope"}, r"'nope' is not valid .*\$\.type"),
        ({"properties": {"a": {"pattern": "["}}}, "not a 'regex'"),
        ({"items": {"$ref": "#/$defs/a"}}, r"\$ref '/\$defs/a' is not found"),
        ({"$ref": "http://127.0.0.1:9/schema"}, r"\$ref 'http://.*' is not found"),
        ({"$id": "http://[", "$ref": "a"}, "refers to no place"),
        ({"$ref": "#"}, "in circles"),
        ({"properties": {"a": {"not": {"$ref": "#/properties/a"}}}}, "in circles"),
        ({"allOf": [{"anyOf": [{"type": "null"}, {"$ref": "#"}]}]}, "in circles"),
    ],
)
def test_a_form_of_answers_that_is_none_is_refused_at_registration(
    schema: dict[str, Any], told: str
) -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    with pytest.raises(InvalidAgent, match=f"'a': output_schema is .*{told}"):
        manager.register_agent(AgentConfig(name="a", output_schema=schema))
    assert manager.names == ()


def test_a_form_of_answers_may_refer_to_its_own_places() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}}}
    schema = {"$defs": {"tree": tree}, "$ref": "#/$defs/tree"}
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    manager.register_agent(AgentConfig(name="a", output_schema=schema))
    assert manager.names == ("a",)


def test_the_names_of_our_kinds_are_those_that_are_built() -> None:
    assert tuple(KINDS) == OUR_KINDS


@pytest.mark.usefixtures("installed_package")
def test_kind_that_cannot_be_loaded_is_refused_with_its_error() -> None:
    with pytest.raises(InvalidAgent, match="RuntimeError: no rhyme"):
        build_agent(AgentConfig(name="a", kind="broken"))
    with pytest.raises(InvalidAgent, match="gives a int, which has no method run"):
        build_agent(AgentConfig(name="a", kind="nothing"))
