"""Where a response's history lies: the conversation that its task continues.

A response without a conversation gets a hidden one, so that a later one may follow it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from conversations.conversation import ConversationConfig
from conversations.errors import (
    ConversationConflict,
    ConversationNotFound,
    MessageNotFound,
)
from conversations.json_value import NotStorable, check_identifier
from conversations.message import Message, Role
from orchestrator.errors import InvalidInput, TaskNotFound
from orchestrator.http.auth import Caller
from orchestrator.http.facade.ids import hidden_conversation, task_id
from orchestrator.http.facade.items import refuse
from orchestrator.http.facade.response_request import ResponseRequest
from orchestrator.http.problem import Problem
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.task import StopReason, Task


async def conversation_for(
    celeriac: AsyncOrchestrator,
    request: ResponseRequest,
    caller: Caller,
    *,
    opening: tuple[Message, ...],
    key: str | None,
    config: ConversationConfig,
) -> str | None:
    """Return the conversation that the response's task continues.

    `config` is that of a hidden one, which lives as long as its response.

    Raises:
        Problem: the response or conversation that it names cannot be continued.
        ConversationNotFound: none of this tenant has the id.
    """
    if request.conversation_id is not None:
        return await _visible(celeriac, request.conversation_id, caller)
    if request.previous_response_id is not None:
        previous = await _previous(celeriac, request.previous_response_id, caller)
        _check_outputs(previous, opening)
        return await _branch(celeriac, previous, caller, key=key)
    if not request.is_stored:
        return None

    async def create(made: str) -> None:
        await celeriac.conversations.create(
            conversation_id=made, config=config, hidden=True, tenant=caller.tenant
        )

    return await _hidden(celeriac, caller, key, make=create)


async def _hidden(
    celeriac: AsyncOrchestrator,
    caller: Caller,
    key: str | None,
    *,
    make: Callable[[str], Awaitable[object]],
) -> str:
    """Return a hidden conversation's id; the same for the same key, or tasks differ.

    One that was deleted with its response is followed by another.
    """
    generation = 0
    while True:
        made = hidden_conversation(caller.tenant, key, generation=generation)
        try:
            await make(made)
        except ConversationConflict:
            if key is None:
                raise
        else:
            return made
        with suppress(ConversationNotFound):
            await celeriac.conversations.get(made, tenant=caller.tenant)
            return made
        generation += 1


async def _visible(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> str:
    try:
        check_identifier(conversation_id)
    except NotStorable:
        raise refuse("conversation", "there is no conversation of this id") from None
    found = await celeriac.conversations.get(conversation_id, tenant=caller.tenant)
    return found.id


async def _previous(
    celeriac: AsyncOrchestrator, response_id: str, caller: Caller
) -> Task:
    try:
        return await celeriac.get(task_id(response_id), tenant=caller.tenant)
    except (TaskNotFound, InvalidInput):
        raise _not_found(response_id) from None


async def _branch(
    celeriac: AsyncOrchestrator, previous: Task, caller: Caller, *, key: str | None
) -> str:
    source = previous.conversation_id
    if source is None:
        raise _not_found(previous.id)
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
    except MessageNotFound:
        raise _not_found(previous.id) from None
    at = turn[-1].seq
    if key is None:
        return (await talks.branch(source, at=at, tenant=caller.tenant)).id

    async def fork(made: str) -> None:
        await talks.fork(source, at=at, new_id=made, hidden=True, tenant=caller.tenant)

    return await _hidden(celeriac, caller, key, make=fork)


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


def _not_found(response_id: str) -> Problem:
    return refuse(
        "previous_response_id",
        f"Previous response with id '{response_id[:80]}' not found.",
        code="previous_response_not_found",
    )
