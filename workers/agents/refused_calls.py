"""Calls of a model that are not made, and what it is told in their place.

Pure functions: the loop knows what of its limits is left.
"""

from __future__ import annotations

from conversations.message import ToolCall
from workers.agents.turn_messages import refusal
from workers.errors import AgentFailed, InvalidToolArguments
from workers.llm.provider import Completion, FinishReason
from workers.tools.tool import ToolResult

MAX_INVALID_TURNS = 3
"""Turns in a row whose every call had unusable arguments; then the model cannot."""


def refused_calls(
    completion: Completion, *, may_call: bool, left: int, most: int
) -> dict[str, ToolResult]:
    """Return the results of the calls that are not made, by the calls' ids.

    Args:
        completion: What the model has said.
        may_call: Whether the task lets it call any tool at all.
        left: How many calls the run may still make.
        most: How many its agent may make, which the model is told.
    """
    calls = completion.message.tool_calls
    if not may_call:
        text = "no tool may be called here; answer without"
        return {each.id: refusal(each.id, "tool_choice", text) for each in calls}
    refused = {
        id_: refusal(id_, InvalidToolArguments.code, f"invalid arguments: {why}")
        for id_, why in completion.invalid_arguments.items()
    }
    if completion.finish_reason is FinishReason.LENGTH:
        last = calls[-1].id
        text = "the call was cut off at the token limit; make it again, shorter"
        refused[last] = refusal(last, InvalidToolArguments.code, text)
    for call in calls[left:]:
        text = f"the limit of {most} tool calls is reached"
        refused[call.id] = refusal(call.id, "tool_call_limit", text)
    return refused


def too_late(call: ToolCall) -> ToolResult:
    """Return the result of a call that the soft time limit has cut off."""
    return refusal(call.id, "soft_time_limit", "the time is over")


def invalid_turns(completion: Completion, *, before: int) -> int:
    """Return how many turns in a row, this one included, had no usable call.

    Raises:
        AgentFailed: too many; the model cannot write this tool's arguments.
    """
    if len(completion.invalid_arguments) < len(completion.message.tool_calls):
        return 0
    if before + 1 >= MAX_INVALID_TURNS:
        raise AgentFailed(
            f"the model wrote unusable tool arguments {MAX_INVALID_TURNS} turns in"
            " a row; use another model or raise max_output_tokens",
            code=InvalidToolArguments.code,
        )
    return before + 1
