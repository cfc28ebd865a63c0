"""Messages of a run's own: its instruction, how its turn begins, calls not made."""

from __future__ import annotations

from functools import lru_cache

from conversations.client_calls import CLIENT_FACT
from conversations.history import open_after
from conversations.json_value import JsonObject
from conversations.message import Message, Role
from workers.agents.agent import AgentInput
from workers.errors import AgentFailed
from workers.tools.tool import ToolResult


@lru_cache(maxsize=16)  # runs of one agent share theirs
def instruction(text: str) -> Message:
    """Return what a model is told before the history.

    Raises:
        ValidationError: it is no text.
    """
    return Message(role=Role.SYSTEM, content=text)


def opening_of_turn(agent_input: AgentInput) -> list[Message]:
    """Return how the turn begins; calls that the client left unanswered are closed."""
    opening = list(agent_input.opening())
    open_calls = open_after(agent_input.messages)
    given = [m.tool_call_id for m in opening if m.role is Role.TOOL]
    first = opening[0]
    if first.role is Role.TOOL and first.tool_call_id not in open_calls:
        raise AgentFailed(
            "input.messages: begins with the result of a call that the conversation"
            " does not hold open; send it right after the answer that made the call",
            code="invalid_input",
        )
    missing = [call_id for call_id in open_calls if call_id not in given]
    unanswered = [_unanswered(call_id) for call_id in sorted(missing)]
    return [*unanswered, *opening]


def _unanswered(call_id: str) -> Message:
    text = "No result: the client did not answer this call."
    facts: JsonObject = {CLIENT_FACT: True}
    return Message(role=Role.TOOL, tool_call_id=call_id, content=text, metadata=facts)


def refusal(call_id: str, code: str, text: str) -> ToolResult:
    """Return the result of a call that was not made."""
    return ToolResult(call_id=call_id, content=f"No result: {text}.", error=code)
