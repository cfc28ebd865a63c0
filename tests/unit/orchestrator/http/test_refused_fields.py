"""A refusal names the field as the client sent it, however it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.orchestrator.http.serving import serving

JsonObject = dict[str, Any]

QUESTION = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
REMOTE = {"type": "mcp_call", "id": "c", "name": "f", "arguments": "{}"}
ADDRESS = "https://example.org/a"
DEEP_NUL = r'{"a": {"b": "\u0000"}}'
FORM = {"type": "json_schema", "name": "f"}


def item(**fields: object) -> JsonObject:
    return {"input": [QUESTION, CALL | fields, OUTPUT]}


def output(**fields: object) -> JsonObject:
    return {"input": [QUESTION, CALL, OUTPUT | fields]}


def remote(**fields: object) -> JsonObject:
    return {"input": [QUESTION, REMOTE | fields]}


def seen(**part: object) -> JsonObject:
    text = {"type": "input_text", "text": "x"}
    shown = {"type": "input_image", **part}
    return {"input": [{"role": "user", "content": [text, shown]}]}


def chat(
    function: Mapping[str, object] = {},
    call: Mapping[str, object] = {},
    result: Mapping[str, object] = {},
) -> JsonObject:
    called = {"name": "f", "arguments": "{}", **function}
    calls = [{"id": "c", "type": "function", "function": called, **call}]
    answered = {"role": "tool", "tool_call_id": "c", "content": "x", **result}
    asked = {"role": "assistant", "content": "I ask.", "tool_calls": calls}
    return {"messages": [QUESTION, asked, answered]}


def chat_seen(**shown: object) -> JsonObject:
    text = {"type": "text", "text": "x"}
    part = {"type": "image_url", "image_url": shown}
    return {"messages": [{"role": "user", "content": [text, part]}]}


def deep(name: str, levels: int) -> JsonObject:
    schema: JsonObject = {}
    for _ in range(levels):
        schema = {name: schema}
    return schema


def tools(levels: int) -> JsonObject:
    tool = {"type": "function", "name": "f", "parameters": deep("a", levels)}
    return {"input": "x", "tools": [tool]}


def form(levels: int) -> JsonObject:
    wanted = {**FORM, "schema": {"default": deep("a", levels)}}
    return {"input": "x", "text": {"format": wanted}}


CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": deep("a", 99)}}
CHAT_FORM = {"name": "f", "schema": {"default": deep("a", 99)}}
IN_ITEMS = {
    "input[1].call_id": item(call_id="c\0"),
    "input[1].name": item(name="f\0"),
    "input[1].arguments": item(arguments="{"),
    "input[1].arguments.a.b": item(arguments=DEEP_NUL),
    "input[2].call_id": output(call_id="c\0"),
    "input[2].output": output(output="a\0"),
    "input[1].id": remote(id="c\0"),
    "input[1].error": remote(error="a\0"),
    "input[0].content[1].image_url": seen(image_url=f"{ADDRESS}\0"),
    "input[0].content[1].detail": seen(image_url=ADDRESS, detail="most"),
    "input": {"input": [CALL]},
}
IN_CHATS = {
    "messages[1].tool_calls[0].id": chat(call={"id": "c\0"}),
    "messages[1].tool_calls[0]": chat(call={"function": None}),
    "messages[1].tool_calls[0].function.name": chat({"name": "f\0"}),
    "messages[1].tool_calls[0].function.arguments": chat({"arguments": "{"}),
    "messages[1].tool_calls[0].function.arguments.a.b": chat({"arguments": DEEP_NUL}),
    "messages[2].tool_call_id": chat(result={"tool_call_id": None}),
    "messages[2].content": chat(result={"content": "a\0"}),
    "messages": {"messages": chat()["messages"][:2]},
    "messages[0].content[1].image_url.url": chat_seen(url="no address"),
    "messages[0].content[1].image_url.detail": chat_seen(url=ADDRESS, detail="most"),
}
TOO_DEEP = {
    "tools[0].parameters.a": ("responses", tools(99)),
    "text.format.schema.default.a": ("responses", form(99)),
    "tools[0].function.parameters.a": (
        "chat/completions",
        {"messages": [QUESTION], "tools": [CHAT_TOOL]},
    ),
    "response_format.json_schema.schema.default.a": (
        "chat/completions",
        {
            "messages": [QUESTION],
            "response_format": {"type": "json_schema", "json_schema": CHAT_FORM},
        },
    ),
}


async def refused(path: str, body: JsonObject) -> str:
    """Send what is refused and return the field that is named."""
    async with serving() as served:
        sent = json.dumps({"model": "researcher", **body})  # escapes what is no Unicode
        answer = await served.client.post(
            f"/v1/{path}",
            content=sent,
            headers={"Content-Type": "application/json"},
            timeout=5,
        )
        tasks = (await served.orchestrator.list()).tasks
    assert (answer.status_code, tasks) == (400, ())
    return str(answer.json()["error"]["param"])


@pytest.mark.parametrize("param", IN_ITEMS)
async def test_a_field_of_an_item_is_named_by_its_own_name(param: str) -> None:
    body = {**IN_ITEMS[param], "background": True}
    assert await refused("responses", body) == param


@pytest.mark.parametrize("param", IN_CHATS)
async def test_a_field_of_a_chat_is_named_though_it_becomes_an_item(param: str) -> None:
    assert await refused("chat/completions", IN_CHATS[param]) == param


@pytest.mark.parametrize("param", TOO_DEEP)
async def test_what_is_nested_too_deep_is_named_where_it_was_sent(param: str) -> None:
    path, body = TOO_DEEP[param]
    assert (await refused(path, body)).startswith(f"{param}.a.a")


@pytest.mark.parametrize(
    ("body", "param"),
    [(tools(61), "tools[0].parameters"), (form(60), "text.format.schema.default")],
)
async def test_what_only_its_copy_for_the_answer_nests_too_deep_is_named_too(
    body: JsonObject, param: str
) -> None:
    sent = {**body, "background": True}
    assert (await refused("responses", sent)).startswith(f"{param}.a.a")


LONE = "\ud800"
NO_UNICODE = {
    "text.format.schema.a.b": (
        "responses",
        {"input": "x", "text": {"format": {**FORM, "schema": {"a": {"b": LONE}}}}},
    ),
    "reasoning.effort": ("responses", {"input": "x", "reasoning": {"effort": LONE}}),
    "response_format.json_schema.schema.a": (
        "chat/completions",
        {
            "messages": [QUESTION],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "f", "schema": {"a": LONE}},
            },
        },
    ),
}


@pytest.mark.parametrize("param", NO_UNICODE)
async def test_a_text_that_is_no_unicode_is_named_where_it_was_sent(param: str) -> None:
    path, body = NO_UNICODE[param]
    assert await refused(path, body) == param


@pytest.mark.parametrize("path", ["conversations", "conversations/{id}"])
async def test_a_nul_in_the_metadata_of_a_conversation_is_named(path: str) -> None:
    async with serving() as served:
        made = await served.client.post("/v1/conversations", json={})
        answer = await served.client.post(
            "/v1/" + path.format(id=made.json()["id"]), json={"metadata": {"a": "\0"}}
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "metadata.a"


async def test_a_name_that_is_no_unicode_does_not_make_a_body_no_object() -> None:
    body = {"agent": "researcher", "input": {}, LONE: 1}
    async with serving() as served:
        answer = await served.client.post(
            "/tasks",
            content=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code == 422
    assert "unicode" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"input": "hi"}, "input: must be an object (got str)"),
        ({"retry": {"max_atempts": 1}}, "retry.max_atempts: not a known field"),
        ({"tags": "a"}, "tags: must be a list (got str)"),
    ],
)
async def test_a_task_that_is_refused_is_told_in_the_words_of_json(
    fields: JsonObject, told: str
) -> None:
    body = {"agent": "researcher", "input": {"query": "x"}, **fields}
    async with serving() as served:
        answer = await served.client.post("/tasks", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (422, told)
