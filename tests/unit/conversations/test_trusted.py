"""A value made of checked parts is the one that pydantic makes of them."""

import sys

import pytest
from pydantic import BaseModel, ValidationError, create_model

from conversations.message import Message, Role, ToolCall
from conversations.record import read_message, write_message
from conversations.trusted import changed, trusted, whole
from orchestrator.journal import Step, StepKind
from orchestrator.task import Usage
from workers.llm.provider import CompletionRequest


def test_a_trusted_value_equals_the_checked_one_in_every_form():
    parts = {"key": "completion:1", "kind": StepKind.COMPLETION, "outcome": {"a": 1}}
    made, checked = trusted(Step, **parts), Step(**parts)
    assert made == checked
    assert made.model_dump_json() == checked.model_dump_json()
    assert made.model_fields_set == checked.model_fields_set
    assert repr(made) == repr(checked)


def test_fields_stand_in_the_models_order_whatever_the_callers():
    made = trusted(Message, content="no", role=Role.USER)
    assert made.model_dump_json(exclude_defaults=True).startswith('{"role":"user"')


def test_values_share_no_default_that_can_be_changed():
    one, other = (trusted(ToolCall, id="a", name="look") for _ in range(2))
    one.arguments["place"] = "Paris"
    assert other.arguments == {}


def test_a_whole_value_equals_the_checked_one():
    fields = {
        "input_tokens": 3,
        "output_tokens": 4,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    }
    made, checked = whole(Usage, dict(fields)), Usage(**fields)
    assert made == checked
    assert made.model_dump_json() == checked.model_dump_json()
    assert made.model_fields_set == checked.model_fields_set


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Message, {"role": Role.USER, "content": "Who?"}),
        (ToolCall, {"id": "call-1", "name": "look"}),
        (CompletionRequest, {"messages": ()}),
    ],
)
def test_values_share_one_table_of_the_names_of_their_fields(
    model: type[BaseModel], named: dict[str, object]
):
    made = trusted(model, **named)
    fields = dict(vars(made))
    own = {**fields}
    assert sys.getsizeof(vars(made)) <= 0.6 * sys.getsizeof(own)
    again = changed(made, **dict.fromkeys(named))
    assert sys.getsizeof(vars(again)) <= 0.6 * sys.getsizeof(own)
    assert list(vars(made)) == list(model.model_fields)
    assert vars(made) == vars(model(**named))


def test_a_model_of_more_fields_than_can_be_shared_is_made_as_any_other():
    names = [f"field_{n}" for n in range(60)]
    model = create_model("Wide", **dict.fromkeys(names, (int, 0)))
    assert trusted(model, field_59=1) == model(field_59=1)


def test_a_changed_value_leaves_the_first_as_it_was():
    first = Usage(input_tokens=3)
    second = changed(first, output_tokens=4)
    assert (first.output_tokens, second.total_tokens) == (0, 7)
    assert second == Usage(input_tokens=3, output_tokens=4)
    assert second.model_fields_set == {"input_tokens", "output_tokens"}


@pytest.mark.parametrize(
    "message",
    [
        Message(role=Role.USER, content="Who?", tokens=3),
        Message(role=Role.SYSTEM, content="Äpfel \U0001f34f", pinned=True),
        Message(role=Role.SYSTEM, content="so far", covers=4),
        Message(role=Role.TOOL, tool_call_id="call-1"),
        Message(role=Role.ASSISTANT, content="I", client_id="a", metadata={"b": [1]}),
        Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="1", name="look"),)),
        Message(role=Role.USER, images=({"url": "https://a.example/b.png"},)),
    ],
)
def test_a_message_is_read_as_it_was_written(message):
    read = read_message(write_message(message))
    assert read == message
    assert type(read.role) is Role
    assert write_message(read) == write_message(message)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "{",
        '{"role":"judge"}',
        '{"role":"user","mood":1}',
        '{"role":"user"}',
        '{"role":"user","content":" "}',
        '{"role":"user","content":5}',
        '{"role":"user","content":null}',
        '{"role":"user","content":"half: \\ud800"}',
        '{"role":"user","content":"Who?","tokens":"many"}',
        '{"role":"user","content":"Who?","tokens":NaN}',
        '{"role":"user","content":"Who?","tokens":-1}',
        '{"role":"user","content":"Who?","tool_call_id":"call-1"}',
        '{"role":"tool","content":"me"}',
        '{"role":"tool","content":"me","tool_call_id":5}',
    ],
)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(ValidationError, match="Message"):
        read_message(text)
