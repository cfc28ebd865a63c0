"""From a request to the task that is stored, and back to the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from conversations.trusted import whole
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import InvalidInput, PayloadTooLarge
from orchestrator.opening import check_asked, check_opening
from orchestrator.request import PAYLOADS, Defaults, SubmitRequest, invalid_input
from orchestrator.task import DEFAULT_QUEUE, Task, new_task_id
from orchestrator.trace_context import present_traceparent
from orchestrator.webhook import is_allowed

_BLANK: Final = {
    name: None if field.is_required() else field.default
    for name, field in Task.model_fields.items()
}
"""Every field in the model's order, as a task begins that says nothing."""
_NO_AGENT: Final = {
    "version": None,
    "queue": DEFAULT_QUEUE,
    "soft_time_limit_seconds": None,
    "time_limit_seconds": None,
}
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
    # Pydantic finds an attribute at four times the cost of a dictionary's entry.
    given, default = vars(request), vars(defaults)
    of_agent: Mapping[str, Any] = _NO_AGENT if agent is None else vars(agent)
    _check_size(given, default["max_input_bytes"])
    if agent is not None:
        check_asked(given["input"], of_agent["kind"])
    check_opening(
        given["input"],
        roles=default["client_roles"],
        max_bytes=default["max_message_bytes"] if given["conversation_id"] else None,
    )
    if given["webhook"]:
        _check_webhook(given["webhook"], default["webhooks_allowed"])
    soft, hard = _limits(given, of_agent, default)
    task = _made(given, of_agent, default, soft=soft, hard=hard)
    try:
        task.require_consistency()
    except ValueError as exc:
        raise InvalidInput("", str(exc)) from None
    return task


def _made(
    given: Mapping[str, Any],
    of_agent: Mapping[str, Any],
    default: Mapping[str, Any],
    *,
    soft: float,
    hard: float,
) -> Task:
    """Make a task.

    Each value was checked with the request, the agent or the settings: to check them
    again would double what a submit costs.
    """
    fields = _BLANK.copy()  # a dictionary of all names at once is dear to make
    fields["id"] = new_task_id()
    fields["tenant"] = given["tenant"] or default["tenant"]
    fields["agent_name"] = given["agent"]
    fields["agent_version"] = of_agent["version"]
    fields["input"] = given["input"]
    fields["parameters"] = given["parameters"]
    fields["context"] = given["context"]
    fields["conversation_id"] = given["conversation_id"]
    fields["when_busy"] = given["when_busy"]
    fields["queue"] = of_agent["queue"]
    fields["priority"] = given["priority"]
    fields["idempotency_key"] = given["idempotency_key"]
    fields["not_before"] = given["not_before"]
    fields["after"] = tuple(dict.fromkeys(given["after"])) if given["after"] else ()
    fields["after_failure"] = given["after_failure"]
    fields["expires_seconds"] = given["expires"]
    fields["deadline_seconds"] = given["deadline"]
    fields["soft_time_limit_seconds"] = soft
    fields["time_limit_seconds"] = hard
    fields["retry"] = given["retry"]
    fields["budget"] = given["budget"]
    fields["cache_ttl_seconds"] = given["cache_ttl"]
    fields["tags"] = given["tags"]
    fields["metadata"] = given["metadata"]
    fields["webhook"] = given["webhook"]
    fields["traceparent"] = given["traceparent"] or present_traceparent()
    return whole(Task, fields)


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
    given: Mapping[str, Any], of_agent: Mapping[str, Any], default: Mapping[str, Any]
) -> tuple[float, float]:
    """Return the soft and the hard limit: the request's, the agent's, the default."""
    soft_given, hard_given = given["soft_time_limit"], given["time_limit"]
    soft: float = (
        soft_given
        or of_agent["soft_time_limit_seconds"]
        or default["soft_time_limit_seconds"]
    )
    if hard_given is not None:
        return soft if soft_given is not None else min(soft, hard_given), hard_given
    hard: float | None = of_agent["time_limit_seconds"]
    if hard is None or (soft_given is not None and soft_given > hard):
        hard = soft + default["time_limit_grace_seconds"]
    # An agent's hard limit alone lowers the default, which its author may not know.
    return soft if of_agent["soft_time_limit_seconds"] else min(soft, hard), hard


def _check_webhook(url: str, allowed: Sequence[str]) -> None:
    if not is_allowed(url, allowed):
        raise InvalidInput(
            "webhook",
            f"not below one of the {len(allowed)} URLs in webhooks.allowed; let the"
            " operator add it there",
        )


def _check_size(given: Mapping[str, Any], limit: int) -> None:
    sizes = [len(to_json(given[name])) if given[name] else 2 for name in _MEASURED]
    total = sum(sizes)
    if total > limit:
        largest = _MEASURED[sizes.index(max(sizes))]
        raise PayloadTooLarge(largest, size=total, limit=limit)
