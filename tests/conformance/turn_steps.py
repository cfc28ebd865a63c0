"""What tests of a conversation's turns do and read, on each store."""

from __future__ import annotations

from conversations.conversation import ConversationConfig
from conversations.errors import ConversationNotFound
from conversations.history import check_history
from conversations.message import Message, Role, StoredMessage
from orchestrator.journal import Step, StepKind
from orchestrator.store import (
    Ending,
    Lease,
    TaskFilter,
    Turn,
)
from orchestrator.task import Task
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    completed,
    submitted,
)

TALK = "talk"


async def asked(stores: Stores, text: str, **fields: object) -> Task:
    return await submitted(
        stores.tasks, conversation_id=TALK, input={"prompt": text}, **fields
    )


async def history(stores: Stores) -> list[StoredMessage]:
    try:
        stored = await stores.conversations.read("default", TALK, limit=1000)
    except ConversationNotFound:
        return []
    check_history([each.message for each in stored])
    return list(stored)


async def said(stores: Stores) -> list[tuple[str, str]]:
    return [
        (each.message.role.value, each.message.content)
        for each in await history(stores)
    ]


def answered(task: Task, answer: str = "done") -> Ending:
    question = Message(role=Role.USER, content=str(task.input["prompt"]))
    reply = Message(role=Role.ASSISTANT, content=answer)
    turn = Turn(messages=(question, reply), config=ConversationConfig())
    ending = completed(Lease("default", task.id, 1, "w"), answer)
    return Ending(status=ending.status, result=ending.result, turn=turn)


async def say(stores: Stores, lease: Lease, number: int, text: str) -> None:
    key = f"completion:{number}"
    step = Step(key=key, kind=StepKind.COMPLETION, said=text, outcome={"a": []})
    await stores.tasks.record_step(lease, step)


async def listed(stores: Stores, **fields: object) -> list[str]:
    page = await stores.tasks.list("default", TaskFilter(**fields))
    return [task.id for task in page.tasks]


async def end_data(stores: Stores, task: Task) -> dict[str, object]:
    return dict((await stores.tasks.events("default", task.id))[-1].data)


def without_names(message: Message) -> Message:
    """Redact Ada; a hook that fails where Bob is named."""
    if "Bob" in message.content:
        raise ValueError("the hook knows no Bob")
    text = message.content.replace("Ada", "…")
    return message.model_copy(update={"content": text})
