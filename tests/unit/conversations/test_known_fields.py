"""Fields that a newer release added are left out, at any depth; nothing else is."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from conversations.conversation import ConversationConfig
from conversations.image import Image
from conversations.known_fields import read_known
from conversations.message import Message, Role, ToolCall
from conversations.record import read_message, write_message
from orchestrator.agent_config import AgentConfig, ModelChoice, WorkerInfo

CALLS = Message(
    role=Role.ASSISTANT,
    content="I look.",
    tool_calls=tuple(ToolCall(id=each, name="look") for each in "ab"),
)
SHOWN = Message(role=Role.USER, images=(Image(url="https://example.com/a.png"),))
WORKER = WorkerInfo(
    id="w",
    hostname="h",
    pid=1,
    agents=(AgentConfig(name="a", fallback=(ModelChoice(model="m"),)),),
)


def newer(value: object) -> object:
    """What a release would write that has added a field to every object."""
    if isinstance(value, dict):
        return {name: newer(item) for name, item in value.items()} | {"colour": ["red"]}
    return [newer(item) for item in value] if isinstance(value, list) else value


def test_a_worker_of_a_newer_release_is_read_without_what_it_added() -> None:
    plain = WORKER.model_dump(mode="json")
    for agent in plain["agents"]:  # a caller's own JSON, which may hold any name
        del agent["parameters"], agent["options"]
    given = newer(plain)
    before = json.dumps(given)
    assert read_known(WorkerInfo, given) == WORKER
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    "message", [CALLS, SHOWN, Message(role=Role.USER, content="Hi")]
)
def test_a_message_of_a_newer_release_is_read_without_what_it_added(
    message: Message,
) -> None:
    body = json.loads(write_message(message))
    for call in body.get("tool_calls", ()):
        call.pop("arguments", None)
    assert read_message(json.dumps(newer(body))) == message


@pytest.mark.parametrize(
    "wrong", [{"max_messages": 0}, {"max_messages": 0, "colour": "red"}, [], "x", None]
)
def test_what_does_not_fit_otherwise_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        read_known(ConversationConfig, wrong)
