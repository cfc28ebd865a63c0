"""The agents that exist when the settings name none."""

from __future__ import annotations

from orchestrator.agent_config import AgentConfig


def shipped_agents() -> dict[str, AgentConfig]:
    """Return them by name, as celeriac.yaml lists them too."""
    return {
        "assistant": AgentConfig(
            name="assistant",
            description="Answers questions; keeps up a conversation.",
            instructions="You are a helpful, precise assistant.",
        ),
        "researcher": AgentConfig(
            name="researcher",
            kind="researcher",
            description="Answers a question from documents, with citations.",
        ),
        "summarizer": AgentConfig(
            name="summarizer",
            kind="summarizer",
            description="Summarises a document or a text.",
        ),
    }
