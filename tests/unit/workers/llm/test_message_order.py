"""Prompts for strict chat templates, and how they are learned of."""

from __future__ import annotations

import pytest

from conversations.message import Message, Role, ToolCall
from tests.unit.conversations.histories import answer, user
from tests.unit.workers.agents.strict_templates import (
    RefusedByTemplateError,
    render,
)
from workers.llm.error_mapping import Failure
from workers.llm.message_order import EARLIER, RECEIVED, in_strict_order
from workers.llm.request_body import Dialect

RULES = Message(role=Role.SYSTEM, content="Be brief.")
SUMMARY = Message(role=Role.SYSTEM, content="They met.", covers=4)
CALLS = Message(
    role=Role.ASSISTANT, tool_calls=(ToolCall(id="call_0123456789", name="look"),)
)
FOUND = Message(role=Role.TOOL, content="a lease", tool_call_id="call_0123456789")


def shape(*messages: Message, system_role: bool = True) -> list[tuple[str, str]]:
    ordered = in_strict_order(messages, system_role=system_role)
    return [(message.role.value, message.content) for message in ordered]


def test_system_messages_are_joined_at_the_beginning():
    assert shape(RULES, user("a"), answer("b"), SUMMARY, user("c")) == [
        ("system", "Be brief.\n\nThey met."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


def test_without_the_role_the_first_question_begins_with_the_rules():
    assert shape(RULES, user("a"), answer("b"), system_role=False) == [
        ("user", "Be brief.\n\na"),
        ("assistant", "b"),
    ]


def test_neighbours_of_one_role_are_joined_and_keep_their_calls():
    asked = [user("a"), user("b"), answer("I look."), CALLS, FOUND]
    assert shape(*asked)[:2] == [("user", "a\n\nb"), ("assistant", "I look.")]
    joined, result = in_strict_order(asked, system_role=True)[1:]
    assert joined.tool_calls[0].id == result.tool_call_id
    assert len(result.tool_call_id or "") == 9


def test_what_a_template_misses_is_said_in_brackets():
    assert shape(answer("b"), user("c")) == [
        ("user", EARLIER),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert [text for _, text in shape(user("a"), CALLS, FOUND, user("stop"))] == [
        "a",
        "",
        "a lease",
        RECEIVED,
        "stop",
    ]


REFUSED = {
    "mistral": [user("a"), user("b")],
    "mistral server": [user("a"), CALLS, FOUND, user("b")],
    "qwen": [RULES, user("a"), answer("b"), SUMMARY, user("c")],
    "llama 2": [RULES, answer("b"), user("c")],
    "gemma": [RULES, user("a")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_template_says_is_understood_and_the_next_prompt_passes(name: str):
    def prompt(dialect: Dialect) -> list[dict[str, object]]:
        messages = REFUSED[name]
        if dialect.message_order != "any":
            has_role = dialect.message_order == "strict"
            messages = [*in_strict_order(messages, system_role=has_role)]
        return [message.model_dump(mode="json") for message in messages]

    dialect, refusals = Dialect(), 0
    while refusals < 3:
        try:
            render(name, prompt(dialect))
            break
        except RefusedByTemplateError as exc:
            refusals += 1
            failure = Failure(status=500, message=f"Jinja Exception: {exc}")
            dialect = dialect.adapted_to(failure)
            assert dialect is not None
    assert refusals == (2 if name == "gemma" else 1)


@pytest.mark.parametrize(
    "text",
    [
        'messages: roles must alternate between "user" and "assistant"',
        "does not support successive user or assistant messages (messages[1])",
        "user or tool message(s) should alternate with assistant message(s)",
        "A conversation must start with a user message.",
        'messages: first message must use the "user" role',
    ],
)
def test_vendors_words_are_understood_and_an_order_that_is_set_stays(text: str):
    failure = Failure(status=400, message=text)
    assert Dialect().adapted_to(failure) == Dialect(message_order="strict")
    fixed = Dialect(fixed=frozenset({"message_order"}))
    assert fixed.adapted_to(failure) is None


def test_a_refusal_of_something_else_keeps_the_order():
    for text in ("the system is busy", "unknown role", "user not found"):
        assert Dialect().adapted_to(Failure(status=400, message=text)) is None
