"""From a request to the task that is stored, and back to the request."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from conversations.json_value import size_of
from conversations.trusted import trusted
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import InvalidInput, PayloadTooLarge
from orchestrator.opening import check_asked, check_opening
from orchestrator.request import PAYLOADS, Defaults, SubmitRequest, invalid_input
from orchestrator.task import DEFAULT_QUEUE, Task, new_task_id
from orchestrator.trace_context import present_traceparent
from orchestrator.webhook import is_allowed

_SAME_NAME: Final = (
    "input",
    "parameters",
    "context",
    "conversation_id",
    "when_busy",
    "priority",
    "idempotency_key",
    "not_before",
    "after_failure",
    "retry",
    "budget",
    "tags",
    "metadata",
    "webhook",
)
"""What a task takes over from its request as it is."""


_MEASURED: Final = (*PAYLOADS, "tags")
"""What counts as a task's input."""


def build_task(
    request: SubmitRequest, *, agent: AgentConfig | None, defaults: Defaults
) -> Task:
    """Make the task that a request asks for; `agent` is None when it is not known.

    Raises:
        InvalidInput: fields contradict each other, or nothing is asked.
        PayloadTooLarge: input, parameters, context, metadata and tags are too large,
            or the question is for a conversation.
        RoleForbidden: the input holds words that its client may not write.
    """
    _check_size(request, defaults.max_input_bytes)
    if agent is not None:
        check_asked(request.input, agent.kind)
    check_opening(
        request.input,
        roles=defaults.client_roles,
        max_bytes=defaults.max_message_bytes if request.conversation_id else None,
    )
    if request.webhook and not is_allowed(request.webhook, defaults.webhooks_allowed):
        raise InvalidInput(
            "webhook",
            f"not below one of the {len(defaults.webhooks_allowed)} URLs in"
            " webhooks.allowed; let the operator add it there",
        )
    soft, hard = _limits(request, agent, defaults)
    given = vars(request)
    # Each value was checked with the request, the agent or the settings: to check them
    # again would double what a submit costs.
    task = trusted(
        Task,
        id=new_task_id(),
        tenant=request.tenant or defaults.tenant,
        agent_name=request.agent,
        agent_version=agent.version if agent else None,
        queue=agent.queue if agent else DEFAULT_QUEUE,
        after=tuple(dict.fromkeys(request.after)),
        expires_seconds=request.expires,
        deadline_seconds=request.deadline,
        soft_time_limit_seconds=soft,
        time_limit_seconds=hard,
        cache_ttl_seconds=request.cache_ttl,
        traceparent=request.traceparent or present_traceparent(),
        **{name: given[name] for name in _SAME_NAME},
    )
    try:
        task.require_consistency()
    except ValueError as exc:
        raise InvalidInput("", str(exc)) from None
    return task


def request_of(task: Task) -> SubmitRequest:
    """Return the request that a task came from, or was made by hand to be.

    Raises:
        InvalidInput: a task made by hand holds what no request may, or is none.
    """
    if not isinstance(task, Task):
        raise InvalidInput(
            "task", f"must be a Task (got {type(task).__name__}); use submit instead"
        )
    try:
        return _request_of(task)
    except ValidationError as exc:
        raise invalid_input(exc) from None


def _request_of(task: Task) -> SubmitRequest:
    return SubmitRequest(
        agent=task.agent_name,
        input=task.input,
        parameters=task.parameters,
        context=task.context,
        conversation_id=task.conversation_id,
        when_busy=task.when_busy,
        tenant=task.tenant,
        idempotency_key=task.idempotency_key,
        priority=task.priority,
        not_before=task.not_before,
        after=task.after,
        after_failure=task.after_failure,
        expires=task.expires_seconds,
        deadline=task.deadline_seconds,
        soft_time_limit=task.soft_time_limit_seconds,
        time_limit=task.time_limit_seconds,
        retry=task.retry,
        budget=task.budget,
        cache_ttl=task.cache_ttl_seconds,
        tags=task.tags,
        metadata=task.metadata,
        webhook=task.webhook,
        traceparent=task.traceparent,
    )


def _limits(
    request: SubmitRequest, agent: AgentConfig | None, defaults: Defaults
) -> tuple[float, float]:
    """Return the soft and the hard limit: the request's, the agent's, the default."""
    of_agent = agent.soft_time_limit_seconds if agent else None
    soft = request.soft_time_limit or of_agent or defaults.soft_time_limit_seconds
    if request.time_limit is not None:
        if request.soft_time_limit is None:
            soft = min(soft, request.time_limit)
        return soft, request.time_limit
    hard = agent.time_limit_seconds if agent else None
    if hard is None or request.soft_time_limit is not None:
        hard = soft + defaults.time_limit_grace_seconds
    return soft, hard


def _check_size(request: SubmitRequest, limit: int) -> None:
    given = vars(request)
    sizes = [size_of(given[name]) if given[name] else 2 for name in _MEASURED]
    total = sum(sizes)
    if total > limit:
        largest = _MEASURED[sizes.index(max(sizes))]
        raise PayloadTooLarge(largest, size=total, limit=limit)
