"""Names in a configuration that nothing would ever ask for are refused."""

from __future__ import annotations

import pytest

from orchestrator.agent_config import AgentConfig
from workers.agent_manager import LocalAgentManager
from workers.agents.researcher import ResearcherAgent
from workers.errors import InvalidAgent, LLMError
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.document_summarizer import DocumentSummarizer
from workers.tools.registry import ToolRegistry


def manager() -> LocalAgentManager:
    return LocalAgentManager(ScriptedLLMProvider(replies=[]), ToolRegistry())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"kind": "researcher", "options": {"root": ["docs"]}},
            r"options\.root is unknown; did you mean roots\?",
        ),
        (
            {"kind": "summarizer", "options": {"part_chars": 5}},
            r"options\.part_chars is unknown; did you mean part_characters\?",
        ),
        (
            {"fallback_on": ["rate_limit"]},
            r"fallback_on: no failure has the code 'rate_limit'; .* rate_limited\?",
        ),
    ],
)
def test_a_slip_is_refused_with_the_right_name(
    given: dict[str, object], told: str
) -> None:
    with pytest.raises(InvalidAgent, match=f"^agent 'a': {told}"):
        manager().register_agent(AgentConfig(name="a", **given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"kind": "researcher", "options": {"roots": "docs"}},
            r"options\.roots: must be a list of directories \(got str\)",
        ),
        (
            {"kind": "researcher", "options": {"documents": "docs"}},
            r"options\.documents: must be a list of paths",
        ),
        (
            {"kind": "summarizer", "options": {"part_characters": 5}},
            r"options\.part_characters: must be a whole number from 1000",
        ),
        (
            {"kind": "summarizer", "parameters": {"temperature": "hot"}},
            r"parameters\.temperature: .* valid number \(got str\)",
        ),
        ({"parameters": {"tools": "x"}}, r"parameters\.tools: .* valid list"),
        ({"model": ""}, "model: Value should have at least 1 item"),
    ],
)
def test_what_each_run_would_fail_on_is_refused(
    given: dict[str, object], told: str
) -> None:
    with pytest.raises(InvalidAgent, match=f"^agent 'a': {told}"):
        manager().register_agent(AgentConfig(name="a", **given))


def test_an_option_without_a_value_is_no_list_of_documents_and_none_is_needed() -> None:
    """Tasks may bring documents of their own."""
    config = AgentConfig(name="a", kind="researcher", options={"documents": None})
    manager().register_agent(config)


def test_a_tool_that_is_named_twice_is_refused() -> None:
    tools = ToolRegistry([DocumentSummarizer()])
    agents = LocalAgentManager(ScriptedLLMProvider(replies=[]), tools)
    [name] = tools.names
    agents.register_agent(AgentConfig(name="a", tools=[name]))
    with pytest.raises(InvalidAgent, match="tools: 'summarize_document' stands twice"):
        agents.register_agent(AgentConfig(name="a", tools=[name, name]))


def test_names_of_ones_own_are_taken() -> None:
    class Melted(LLMError):
        code = "melted"

    config = AgentConfig(name="a", options={"mine": 1}, fallback_on=[Melted.code])
    manager().register_agent(config)


def test_an_agent_that_is_made_of_ours_reads_options_of_its_own() -> None:
    class Librarian(ResearcherAgent):
        pass

    config = AgentConfig(name="a", options={"shelf": "B", "roots": "its own"})
    manager().register_agent(config, Librarian())
