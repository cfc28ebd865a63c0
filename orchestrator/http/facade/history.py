"""Where a response's history lies: the conversation that its task continues.

A response without a conversation gets a hidden one, so that a later one may follow it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from conversations.conversation import new_hidden_id
from conversations.errors import (
    ConversationError,
    ConversationNotFound,
    MessageNotFound,
)
from conversations.json_value import NotStorable, check_identifier
from conversations.message import Message, Role
from orchestrator.errors import (
    InvalidInput,
    OrchestratorError,
    StoreUnavailable,
    TaskNotFound,
)
from orchestrator.http.auth import Caller
from orchestrator.http.facade.ids import response_id, task_id
from orchestrator.http.facade.items import refuse
from orchestrator.http.facade.response_request import ResponseRequest
from orchestrator.http.problem import Problem
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.task import StopReason, Task


class History(NamedTuple):
    """Where a task's history lies."""

    conversation_id: str | None
    is_fork: bool = False
    """Whether it was copied for this task alone, and is worth nothing without it."""
    follows: str | None = None
    """The id of the response that it goes on from."""


async def history_for(
    celeriac: AsyncOrchestrator,
    request: ResponseRequest,
    caller: Caller,
    *,
    opening: tuple[Message, ...],
) -> History:
    """Return the conversation that the response's task continues.

    A hidden one that begins with the task comes into being with its turn.

    Raises:
        Problem: the response or conversation that it names cannot be continued.
        ConversationNotFound: none of this tenant has the id.
    """
    if request.conversation_id is not None:
        return History(await _visible(celeriac, request.conversation_id, caller))
    if request.previous_response_id is not None:
        previous = await _previous(celeriac, request.previous_response_id, caller)
        _check_outputs(previous, opening)
        return await _branch(celeriac, previous, caller)
    return History(new_hidden_id() if request.is_stored else None)


@asynccontextmanager
async def taken_by_a_task(
    celeriac: AsyncOrchestrator, history: History, caller: Caller
) -> AsyncIterator[list[Task]]:
    """Delete a fork that no task has taken; who submits one puts it into the list.

    A store that did not answer may have accepted the task, so its fork is left, as it
    is when this process dies in between: then it expires.

    Raises:
        Problem: the response that it follows was deleted meanwhile.
    """
    tasks: list[Task] = []
    try:
        yield tasks
    except StoreUnavailable:
        raise
    except ConversationNotFound:
        if history.follows is None:
            raise
        raise _not_found(history.follows) from None  # it was deleted meanwhile
    except (OrchestratorError, ConversationError):
        await _discard(celeriac, history, caller)
        raise
    if any(task.conversation_id != history.conversation_id for task in tasks):
        await _discard(celeriac, history, caller)


async def _discard(
    celeriac: AsyncOrchestrator, history: History, caller: Caller
) -> None:
    if history.is_fork and history.conversation_id is not None:
        with suppress(ConversationError):
            await celeriac.conversations.delete(
                history.conversation_id, tenant=caller.tenant
            )


async def _visible(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> str:
    try:
        check_identifier(conversation_id)
    except NotStorable:
        raise refuse("conversation", "there is no conversation of this id") from None
    found = await celeriac.conversations.get(conversation_id, tenant=caller.tenant)
    if found.hidden:
        raise ConversationNotFound(conversation_id)
    return found.id


async def _previous(celeriac: AsyncOrchestrator, named: str, caller: Caller) -> Task:
    try:
        return await celeriac.get(task_id(named), tenant=caller.tenant)
    except (TaskNotFound, InvalidInput):
        raise _not_found(named) from None


async def _branch(
    celeriac: AsyncOrchestrator, previous: Task, caller: Caller
) -> History:
    source = previous.conversation_id
    if source is None:
        raise _not_found(response_id(previous.id))
    if not previous.status.is_terminal:
        raise Problem(
            409,
            "previous_response_in_progress",
            "the previous response has not ended; wait for it, or use a conversation,"
            " in which turns stand in line",
            field="previous_response_id",
        )
    talks = celeriac.conversations
    try:
        turn = await talks.get_turn(source, previous.id, tenant=caller.tenant)
        branch = await talks.branch(source, at=turn[-1].seq, tenant=caller.tenant)
    except (ConversationNotFound, MessageNotFound):
        raise _not_found(response_id(previous.id)) from None
    return History(
        branch.id, is_fork=branch.id != source, follows=response_id(previous.id)
    )


def _check_outputs(previous: Task, opening: tuple[Message, ...]) -> None:
    """Refuse outputs of calls that the previous response has not made."""
    result = previous.result
    handed_over: set[object] = set()
    if result is not None and result.stop_reason is StopReason.CLIENT_TOOL_CALLS:
        output = result.output if isinstance(result.output, dict) else {}
        calls = output.get("tool_calls")
        if isinstance(calls, list):
            handed_over = {each.get("id") for each in calls if isinstance(each, dict)}
    for message in opening:
        if message.role is not Role.TOOL:
            return
        if message.tool_call_id not in handed_over:
            raise refuse(
                "input",
                "No tool call found for function call output with call_id"
                f" {message.tool_call_id}.",
            )


def _not_found(named: str) -> Problem:
    return refuse(
        "previous_response_id",
        f"Previous response with id '{named[:80]}' not found.",
        code="previous_response_not_found",
    )
