"""The last answer of a run that met a limit: how it is asked for, what it ends as.

Pure functions: the loop knows which limit that was, and asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from conversations.message import Message, Role
from orchestrator.task import StopReason
from workers.agents.agent import AgentResult
from workers.errors import AgentFailed, BudgetExceeded
from workers.llm.provider import Completion, CompletionRequest

CLOSING = {
    StopReason.MAX_TURNS: "You have reached the limit of turns or tool calls.",
    StopReason.SOFT_TIME_LIMIT: "The time for this task is over.",
    StopReason.BUDGET: "The budget for this task is spent.",
}
CLOSING_TOKENS = 512
"""Of the last answer that is asked for when the budget is spent."""
ANSWER_NOW = (
    " No more tools can be used. Give your best answer now with what you have found,"
    " and say what is missing."
)


def closing_question(limit: StopReason) -> Message:
    """Return how the model is asked for an answer without tools."""
    return Message(role=Role.USER, content=CLOSING[limit] + ANSWER_NOW)


def as_short(request: CompletionRequest) -> CompletionRequest:
    """Return the request for an answer that is paid beyond the budget."""
    most = min(CLOSING_TOKENS, request.max_output_tokens or CLOSING_TOKENS)
    return request.model_copy(update={"max_output_tokens": most})


def text_of(completion: Completion, limit: StopReason) -> str:
    """Return the answer's text.

    Raises:
        AgentFailed: it has none.
    """
    content = completion.message.content
    if not content.strip():
        raise AgentFailed(
            f"the run stopped ({limit.value}) and the model gave no answer when"
            " asked for one without tools; raise the limit or use another model",
            code="no_answer",
        )
    return content


def unpaid(spent: BudgetExceeded, turn: Sequence[Message], *, said: str) -> AgentResult:
    """Return what the model has said last, when no more can be paid.

    Raises:
        BudgetExceeded: that is nothing.
    """
    if not said:
        raise spent
    last = Message(role=Role.ASSISTANT, content=said)
    return AgentResult(
        content=last.content,
        stop_reason=StopReason.BUDGET,
        partial=True,
        messages=(*turn, last),
    )
