"""What is sent: the JSON of the Chat Completions API and its dialects."""

from __future__ import annotations

import re

import pytest

from conversations.image import Image
from conversations.message import Message, Role, ToolCall
from workers.llm.error_mapping import Failure
from workers.llm.provider import CompletionRequest, ToolSpec
from workers.llm.request_body import Dialect, chat_body

ASKED = Message(role="user", content="weather?")
CALLING = Message(
    role="assistant",
    tool_calls=(ToolCall(id="c1", name="look", arguments={"city": "Tromsø"}),),
    reasoning="I should look",
    reasoning_field="thinking",
)
FOUND = Message(role="tool", content="", tool_call_id="c1")


def body_of(
    *messages: Message, dialect: Dialect | None = None, **fields: object
) -> dict[str, object]:
    request = CompletionRequest.model_validate({"messages": messages, **fields})
    return chat_body(request, model="m", dialect=dialect or Dialect(), stream=False)


def test_what_is_not_set_is_not_sent():
    assert body_of(ASKED) == {
        "model": "m",
        "messages": [{"role": "user", "content": "weather?"}],
    }


def test_content_is_never_null():
    messages = body_of(ASKED, CALLING, FOUND)["messages"]
    assert isinstance(messages, list)
    assert [m["content"] for m in messages] == ["weather?", "", ""]


def test_calls_go_back_with_their_arguments_as_text():
    messages = body_of(CALLING, FOUND)["messages"]
    assert isinstance(messages, list)
    assert messages[0]["tool_calls"] == [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "look", "arguments": '{"city": "Tromsø"}'},
        }
    ]
    assert messages[1]["tool_call_id"] == "c1"


def test_reasoning_goes_back_under_its_name_unless_refused():
    def first(dialect: Dialect) -> dict[str, object]:
        messages = body_of(CALLING, dialect=dialect)["messages"]
        assert isinstance(messages, list)
        return messages[0]

    assert first(Dialect())["thinking"] == "I should look"
    assert "thinking" not in first(Dialect(replay_reasoning=False))


def test_a_tool_without_parameters_still_has_an_object_schema():
    body = body_of(ASKED, tools=[ToolSpec(name="now")], tool_choice="required")
    assert body["tool_choice"] == "required"
    [tool] = body["tools"]
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


def test_sampling_and_limits_are_sent_as_set():
    body = body_of(ASKED, temperature=0, top_p=0.5, seed=0, max_output_tokens=9)
    assert (body["temperature"], body["top_p"], body["seed"]) == (0, 0.5, 0)
    assert body["max_tokens"] == 9


def test_a_stream_asks_for_usage():
    request = CompletionRequest(messages=(ASKED,))
    body = chat_body(request, model="m", dialect=Dialect(), stream=True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_a_refused_max_tokens_switches_the_field_once():
    refusal = Failure(status=400, code="unsupported_parameter", param="max_tokens")
    switched = Dialect().adapted_to(refusal)
    assert switched == Dialect(output_limit_field="max_completion_tokens")
    assert switched.adapted_to(refusal) is None


def test_refused_reasoning_is_left_out_once():
    text = "Cannot pass both content and thinking in an assistant message"
    refusal = Failure(status=500, message=text)
    switched = Dialect().adapted_to(refusal)
    assert switched == Dialect(replay_reasoning=False)
    assert switched.adapted_to(refusal) is None


@pytest.mark.parametrize(
    "words",
    [
        "Invalid 'messages[9].tool_calls[0].function.name': string does not match"
        " pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string"
        " with maximum length 40, but got a string with length 46 instead.",
        "Invalid 'messages[3].tool_call_id': string too long.",
        "messages.1.content.1.tool_use.id: String should match pattern '^[a-z]+$'",
        "messages.1.content.1.tool_use.name: String should have at most 64 characters",
        "messages.2.content.0.tool_result.tool_use_id: String should match pattern",
        "Value at 'messages.2.member.content.1.member.toolUse.name' failed to satisfy"
        " constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
    ],
)
def test_names_and_ids_of_calls_that_are_refused_become_plain_ones(words: str):
    refusal = Failure(status=400, message=words)
    switched = Dialect().adapted_to(refusal)
    assert switched == Dialect(plain_calls=True)
    assert switched.adapted_to(refusal) is None
    calls = [
        ("functions.Look:0", "functions.look at"),
        ("x" * 41, "n" * 65),
        ("call_1", "is.offered"),
    ]
    made = tuple(ToolCall(id=each, name=name) for each, name in calls)
    results = [
        Message(role=Role.TOOL, tool_call_id=each, content="it") for each, _ in calls
    ]
    request = CompletionRequest(
        messages=(ASKED, Message(role=Role.ASSISTANT, tool_calls=made), *results),
        tools=(ToolSpec(name="is.offered"),),
    )
    _, said, *given = chat_body(request, model="m", dialect=switched, stream=False)[
        "messages"
    ]
    names = [call["function"]["name"] for call in said["tool_calls"]]
    assert names == ["functions_look_at", "n" * 64, "is.offered"]
    ids = [call["id"] for call in said["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in given]
    assert len({*ids}) == 3
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,40}", each) for each in ids)
    assert ids[2] == "call_1"


def test_another_refusal_changes_nothing():
    wanted = "`reasoning_content` in the thinking mode must be passed back"
    assert Dialect().adapted_to(Failure(status=400, message=wanted)) is None
    assert Dialect().adapted_to(Failure(status=400, message="bad")) is None


@pytest.mark.parametrize(
    ("failure", "left_out"),
    [
        (
            Failure(
                status=400,
                code="unsupported_value",
                param="temperature",
                message="'temperature' does not support 0.2 with this model.",
            ),
            "temperature",
        ),
        (
            Failure(
                status=422,
                message="body.stream_options: Extra inputs are not permitted",
            ),
            "stream_options",
        ),
        (Failure(status=400, message="Unsupported parameter: `seed`"), "seed"),
        (
            Failure(status=400, message="Argument not supported on this model: stop"),
            "stop",
        ),
        (Failure(status=400, message="unknown field 'tool_choice'"), "tool_choice"),
    ],
)
def test_a_field_that_the_endpoint_does_not_take_is_left_out_once(
    failure: Failure, left_out: str
):
    switched = Dialect().adapted_to(failure)
    assert switched == Dialect(left_out=frozenset({left_out}))
    assert switched.adapted_to(failure) is None
    request = CompletionRequest(
        messages=(ASKED,),
        tools=(ToolSpec(name="look"),),
        tool_choice="required",
        temperature=0.2,
        seed=1,
        stop=("END",),
    )
    body = chat_body(request, model="m", dialect=switched, stream=True)
    assert left_out not in body
    assert {"model", "messages", "stream"} < body.keys()


@pytest.mark.parametrize(
    "failure",
    [
        Failure(status=400, param="temperature", message="temperature must be <= 2"),
        Failure(status=500, message="Unsupported parameter: seed"),
        Failure(status=400, message="unsupported: seed and top_p"),
        Failure(status=400, message="unsupported model"),
    ],
)
def test_a_wrong_value_or_an_unclear_refusal_leaves_nothing_out(failure: Failure):
    assert Dialect().adapted_to(failure) is None


def test_images_go_as_parts_beside_the_text_and_only_where_there_are_any():
    image = Image(url="https://example.com/a.png", detail="low")
    shown = ASKED.model_copy(update={"images": (image,)})
    assert body_of(shown, ASKED)["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "weather?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://example.com/a.png", "detail": "low"},
                },
            ],
        },
        {"role": "user", "content": "weather?"},
    ]
    alone = shown.model_copy(update={"content": ""})
    (sent,) = body_of(alone)["messages"]
    assert [part["type"] for part in sent["content"]] == ["image_url"]
