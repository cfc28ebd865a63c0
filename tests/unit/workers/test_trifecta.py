"""Agents that could be made to give private data away are told of, or refused."""

from __future__ import annotations

import logging

import pytest

from orchestrator.agent_config import AgentConfig
from workers.agent_manager import LocalAgentManager
from workers.errors import InvalidAgent
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tag, Tool


def tagged(name: str, *tags: Tag) -> Tool:
    async def nothing() -> None:
        """Do nothing."""

    return Tool(nothing, name=name, tags=tags)


TOOLS = (
    tagged("read_mail", "reads_private", "reads_untrusted"),
    tagged("look_up", "reads_private"),
    tagged("send", "sends_out"),
)


def register(*names: str, kind: str = "llm", strict: bool = False) -> None:
    llm, registry = ScriptedLLMProvider(), ToolRegistry(TOOLS)
    manager = LocalAgentManager(llm, registry, strict_tools=strict)
    manager.register_agent(AgentConfig(name="clerk", kind=kind, tools=names))


@pytest.mark.parametrize(
    ("names", "kind"), [(("read_mail", "send"), "llm"), (("send",), "researcher")]
)
def test_all_three_in_one_agent_are_warned_of_and_refused_when_strict(
    names: tuple[str, ...], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        register(*names, kind=kind)
    (record,) = caplog.records
    assert "sends_out: send" in record.getMessage()
    assert "clerk" in record.getMessage()
    with pytest.raises(InvalidAgent, match="take one of the three out"):
        register(*names, kind=kind, strict=True)


@pytest.mark.parametrize(
    ("names", "kind"),
    [(("read_mail",), "llm"), (("look_up", "send"), "llm"), ((), "researcher")],
)
def test_two_of_the_three_are_fine(
    names: tuple[str, ...], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        register(*names, kind=kind, strict=True)
    assert caplog.records == []


@pytest.mark.parametrize("tags", ["sends_out", ["sends"], [""]])
def test_an_unknown_tag_is_refused_by_name(tags: object) -> None:
    with pytest.raises(InvalidAgent, match="reads_private, reads_untrusted, sends_out"):
        Tool(len, name="length", tags=tags)  # type: ignore[arg-type]
