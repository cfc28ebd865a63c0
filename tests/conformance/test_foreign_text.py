"""Text that no history may hold: refused from callers, mended from runs, on each store.

The runs are those of `test_turn_unfinished`; here their words are broken.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable

import pytest

from conversations import (
    ConversationError,
    ConversationNotFound,
    ConversationService,
    InvalidHistory,
    InvalidMessage,
    InvalidRequest,
    StoredConversationService,
)
from conversations.conversation import ConversationConfig
from conversations.json_value import dumps
from conversations.message import Message, Role, ToolCall
from orchestrator.journal import SUMMARY_KEY, Step, StepKind
from orchestrator.store import Ending, Turn
from orchestrator.task import TaskStatus
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import claim, completed, failed, submitted
from tests.conformance.test_turn_unfinished import began, finishes, history, says

BROKEN, WHOLE = "a\x00b", "a\ufffdb"
LOOKS_LIKE_IT = r"a\u0000b"


@pytest.fixture
def service(stores: Stores) -> ConversationService:
    return StoredConversationService(stores.conversations)


def work(text: str) -> tuple[Message, ...]:
    call = ToolCall(id="1", name="look", arguments={text: [{"deep": text}], "n": 1.5})
    return (
        Message(role=Role.USER, content=text, metadata={text: {"list": [text]}}),
        Message(role=Role.ASSISTANT, content=text, reasoning=text, tool_calls=(call,)),
        Message(role=Role.TOOL, content=text, tool_call_id="1"),
        Message(role=Role.ASSISTANT, content=text),
    )


@pytest.mark.parametrize(
    ("given", "kept"), [(BROKEN, WHOLE), (LOOKS_LIKE_IT, LOOKS_LIKE_IT)]
)
async def test_a_turns_text_enters_mended(
    stores: Stores, service: ConversationService, given: str, kept: str
) -> None:
    _, lease = await began(stores)
    turn = Turn(messages=work(given), config=ConversationConfig())
    ending = dataclasses.replace(completed(lease), turn=turn)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    assert tuple(each.message for each in await history(stores)) == work(kept)
    text = await service.export("talk")
    await service.import_(text, conversation_id="copy")
    copied = await service.get_messages("copy")
    assert tuple(each.message for each in copied) == work(kept)


async def test_what_was_said_and_summarised_before_an_end_enters_mended(
    stores: Stores,
) -> None:
    _, lease = await began(stores)
    summary = Message(role=Role.SYSTEM, content=BROKEN, covers=1)
    outcome = summary.model_dump(mode="json")
    step = Step(key=SUMMARY_KEY, kind=StepKind.COMPLETION, outcome=outcome)
    await stores.tasks.record_step(lease, step)
    await finishes(stores, lease, BROKEN, number=1)
    await says(stores, lease, BROKEN, number=2)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    told, _, mark = await history(stores)
    assert told.message.content == WHOLE
    assert mark.message.content.startswith(f"{WHOLE}\n\n{WHOLE}\n\n[")


async def test_a_question_that_got_past_the_door_enters_mended(stores: Stores) -> None:
    """As one that an older client has submitted, or that steers a run."""
    task = await submitted(
        stores.tasks, conversation_id="talk", input={"prompt": BROKEN}
    )
    lease = (await claim(stores.tasks, task)).lease
    steering = {"conversation_id": "talk", "when_busy": "steer"}
    await submitted(stores.tasks, **steering, input={"prompt": BROKEN})
    assert await stores.tasks.take_messages(lease, "messages:1:1") is not None
    ending = Ending(status=TaskStatus.CANCELLED)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    asked = [each.message.content for each in (await history(stores))[:2]]
    assert asked == [WHOLE, WHOLE]


def line(message: dict[str, object], seq: int = 1) -> str:
    at = "2025-01-01T00:00:00Z"
    return f"{dumps({'seq': seq, 'created_at': at, 'message': message})}\n"


def escaped(content: str) -> str:
    """A line that JSON itself may hold and no message."""
    return line({"role": "user", "content": "@"}).replace("@", content)


Act = Callable[[ConversationService, str], Awaitable[object]]


async def import_of(
    service: ConversationService, head: str, text: str, **changes: object
) -> None:
    changed = json.loads(head) | {"id": "other"} | changes
    await service.import_(f"{json.dumps(changed)}\n{text}")


REFUSED: dict[str, tuple[Act, type[ConversationError], str]] = {
    "import": (
        lambda service, head: import_of(service, head, escaped(r"a\u0000b")),
        InvalidMessage,
        r"line 2.content: holds a NUL character at index 1; take it out",
    ),
    "import of a call": (
        lambda service, head: import_of(
            service,
            head,
            line({"role": "assistant", "tool_calls": [{"id": "\0", "name": "a"}]}),
        ),
        InvalidHistory,
        r"line 2.message.tool_calls\[0\].id: holds a NUL",
    ),
    "import of half a character": (
        lambda service, head: import_of(service, head, escaped(r"\ud800")),
        InvalidHistory,
        "line 2: Invalid JSON",
    ),
    "import of metadata": (
        lambda service, head: import_of(service, head, "", metadata={"a": ["\0"]}),
        InvalidRequest,
        r"metadata.a\[0\]: holds a NUL",
    ),
    "metadata of a new one": (
        lambda service, _: service.create(conversation_id="other", metadata={"a\0": 1}),
        InvalidRequest,
        "a name in metadata: holds a NUL",
    ),
    "first messages": (
        lambda service, _: service.create(
            conversation_id="other", messages=[{"role": "user", "content": "\0"}]
        ),
        InvalidMessage,
        r"messages\[0\].content: holds a NUL",
    ),
    "a search": (
        lambda service, _: service.list(metadata={"a": "\0"}),
        InvalidRequest,
        "metadata.a: holds a NUL",
    ),
    "a change of metadata": (
        lambda service, _: service.update_metadata("talk", {"a": "\0"}),
        InvalidRequest,
        "metadata.a: holds a NUL",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_callers_send_is_refused_and_leaves_nothing(
    service: ConversationService, name: str
) -> None:
    act, error, text = REFUSED[name]
    await service.create(conversation_id="talk", metadata={"kept": True})
    head = await service.export("talk")
    with pytest.raises(error, match=text):
        await act(service, head)
    with pytest.raises(ConversationNotFound):
        await service.get("other")
    assert await service.export("talk") == head
