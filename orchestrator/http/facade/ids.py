"""Names on both sides: a response's id is its task's, an item's holds both. Pure."""

from __future__ import annotations

import re
from uuid import NAMESPACE_URL, uuid4, uuid5

RESPONSE = "resp_"
_TASK = "task-"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def response_id(task_id: str) -> str:
    """Return the id of a task's response."""
    return f"{RESPONSE}{task_id.removeprefix(_TASK)}"


def task_id(given: str) -> str:
    """Return the id of a response's task."""
    rest = given.removeprefix(RESPONSE)
    return f"{_TASK}{rest}" if _is_hex(rest) else rest


_KINDS = {"msg": "msg", "call": "mcp", "client": "fc"}


def item_id(task: str, local: str) -> str:
    """Return the id of an item of a task, from its id in the event log."""
    kind, _, place = local.partition("-")
    owner = task.removeprefix(_TASK)
    return f"{_KINDS.get(kind, 'item')}_{owner}_{_UNSAFE.sub('_', place)}"


def is_worker_call(local: str) -> bool:
    """Whether an item of the event log is a call that a worker runs."""
    return local.partition("-")[0] == "call"


def _is_hex(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def owner_of(conversation_id: str) -> str:
    """Return a short name of a conversation for the ids of its items."""
    return uuid5(NAMESPACE_URL, conversation_id).hex[:16]


def new_conversation() -> str:
    """Return a new conversation's id as OpenAI writes them."""
    return f"conv_{uuid4().hex}"
