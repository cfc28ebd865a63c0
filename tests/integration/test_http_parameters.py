"""What OpenAI's parameters do on their way from a client to the model, if they may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from conversations.message import ToolCall
from tests.http_service import Service, serving
from workers.errors import ContextOverflow
from workers.llm.scripted import Script

QUESTION = [{"role": "user", "content": "weather?"}]
CALL = ToolCall(id="c1", name="weather", arguments={"city": "Oslo"})


@asynccontextmanager
async def asked(
    replies: Script,
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    async with (
        serving(replies) as running,
        httpx.AsyncClient(base_url=f"{running.url}/v1", timeout=20) as client,
    ):
        yield running, client


def chat(model: str = "assistant", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": QUESTION, **fields}


async def streamed(client: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    answer = await client.post("/chat/completions", json=chat(stream=True, **fields))
    lines = [
        x.removeprefix("data: ") for x in answer.text.split("\n\n") if x[:4] == "data"
    ]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def pieces_of(chunks: list[dict[str, Any]]) -> list[str]:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if "choices" in chunk]
    return [delta["content"] for delta in deltas if delta.get("content")]


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}}


def chat_function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


async def test_a_prompt_beyond_the_context_is_a_bad_request() -> None:
    overflow = ContextOverflow("9000 tokens exceed 4096", context_tokens=4096)
    async with asked([overflow] * 2) as (_, client):
        answer = await client.post("/chat/completions", json=chat())
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_overflow"


@pytest.mark.parametrize("stop", ["\nObservation:", ["STOP", "\nObservation:"]])
async def test_an_answer_ends_before_a_stop_sequence(stop: str | list[str]) -> None:
    said = "Action: look\nObservation: it rains, I made up"
    async with asked([said, said]) as (running, client):
        answer = (await client.post("/chat/completions", json=chat(stop=stop))).json()
        [choice] = answer["choices"]
        assert choice["message"]["content"] == "Action: look"
        assert choice["finish_reason"] == "stop"
        chunks = await streamed(client, stop=stop)
        assert "".join(pieces_of(chunks)) == "Action: look"
        sent = (stop,) if isinstance(stop, str) else (*stop,)
        assert [request.stop for request in running.model.requests] == [sent, sent]


async def test_each_completion_of_a_run_has_its_stop_sequences() -> None:
    async with asked([CALL, "Sunny."]) as (running, client):
        body = chat("forecaster", stop="X", presence_penalty=0.5, frequency_penalty=-1)
        assert (await client.post("/chat/completions", json=body)).status_code == 200
    for request in running.model.requests:
        assert request.stop == ("X",)
        assert (request.presence_penalty, request.frequency_penalty) == (0.5, -1)


@pytest.mark.parametrize("stop", [["a"] * 5, "", [""], "x" * 257, 7, ["a\0"]])
async def test_stop_sequences_have_bounds(stop: object) -> None:
    async with asked([]) as (running, client):
        answer = await client.post("/chat/completions", json=chat(stop=stop))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("stop")
    assert running.model.requests == []


async def test_of_the_clients_tools_those_are_offered_that_it_allows() -> None:
    async with asked(["Hm.", "Hm."]) as (running, client):
        allowed = {"mode": "auto", "tools": [function("b")]}
        body = {
            "model": "forecaster",
            "input": "weather?",
            "tools": [function("a"), function("b")],
            "tool_choice": {"type": "allowed_tools", **allowed},
        }
        response = (await client.post("/responses", json=body)).json()
        assert response["status"] == "completed", response
        assert response["tool_choice"] == body["tool_choice"]
        nested = {"mode": "auto", "tools": [chat_function("b")]}
        both = chat(
            "forecaster",
            tools=[chat_function("a"), chat_function("b")],
            tool_choice={"type": "allowed_tools", "allowed_tools": nested},
        )
        answer = await client.post("/chat/completions", json=both)
        assert answer.status_code == 200, answer.text
    for request in running.model.requests:
        assert [tool.name for tool in request.tools] == ["weather", "b"]
        assert request.tool_choice == "auto"


async def test_one_of_the_allowed_tools_must_be_called_first() -> None:
    async with asked([ToolCall(id="c1", name="b")]) as (running, client):
        body = {
            "model": "forecaster",
            "input": "weather?",
            "tools": [function("a"), function("b")],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [function("b")],
            },
        }
        response = (await client.post("/responses", json=body)).json()
    assert [item["name"] for item in response["output"]] == ["b"]
    [request] = running.model.requests
    assert [tool.name for tool in request.tools] == ["b"]
    assert request.tool_choice == "required"


async def test_a_tool_that_is_not_allowed_is_unknown() -> None:
    async with asked([ToolCall(id="c1", name="a"), "Well."]) as (_, client):
        body = {
            "model": "assistant",
            "input": "weather?",
            "tools": [function("a"), function("b")],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [function("b")],
            },
        }
        response = (await client.post("/responses", json=body)).json()
    call, message = response["output"]
    assert (call["type"], call["status"]) == ("mcp_call", "failed")
    assert message["content"][0]["text"] == "Well."


@pytest.mark.parametrize(
    "choice",
    [
        {"mode": "none", "tools": [function("a")]},
        {"mode": "auto", "tools": []},
        {"mode": "auto", "tools": "a"},
        {"mode": "auto", "tools": [function("weather")]},
        {"mode": "auto", "tools": [{"type": "mcp", "server_label": "celeriac"}]},
        {},
    ],
)
async def test_what_is_allowed_must_be_functions_of_the_client(
    choice: dict[str, Any],
) -> None:
    async with asked([]) as (_, client):
        body = {
            "model": "forecaster",
            "input": "weather?",
            "tools": [function("a")],
            "tool_choice": {"type": "allowed_tools", **choice},
        }
        answer = await client.post("/responses", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("tool_choice.")


async def test_a_json_object_of_any_shape_comes_through() -> None:
    said = '{"a": [1, {"b": null}]}'
    async with asked([said]) as (running, client):
        wanted = {"type": "json_object"}
        answer = await client.post(
            "/chat/completions", json=chat(response_format=wanted)
        )
    assert answer.json()["choices"][0]["message"]["content"] == said
    assert running.model.requests[0].output_schema == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "param", "remedy"),
    [
        ({"functions": [{"name": "f"}]}, "functions", "given as tools"),
        ({"function_call": {"name": "f"}}, "function_call", "tool_choice"),
        ({"function_call": "none"}, "function_call", "tool_choice"),
        (
            {"messages": [{"role": "function", "name": "f", "content": "x"}]},
            "messages[0].role",
            "role tool",
        ),
        (
            {
                "messages": [
                    *QUESTION,
                    {
                        "role": "assistant",
                        "content": None,
                        "function_call": {"name": "f", "arguments": "{}"},
                    },
                ]
            },
            "messages[1].function_call",
            "tool_calls",
        ),
        ({"logprobs": True}, "logprobs", "leave it out"),
        ({"top_logprobs": 3}, "top_logprobs", "leave it out"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "leave it out"),
        ({"modalities": ["text", "audio"]}, "modalities", "text"),
        ({"audio": {"voice": "ash", "format": "mp3"}}, "audio", "text"),
        ({"web_search_options": {}}, "web_search_options", "tool"),
        ({"moderation": {"model": "m"}}, "moderation", "endpoint"),
        ({"n": 2}, "n", "1"),
    ],
)
async def test_what_an_answer_would_lack_is_refused_with_the_remedy(
    fields: dict[str, Any], param: str, remedy: str
) -> None:
    async with asked([]) as (running, client):
        answer = await client.post("/chat/completions", json=chat(**fields))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert remedy in error["message"]
    assert running.model.requests == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"moderation": {"model": "m"}}, "moderation"),
    ],
)
async def test_what_a_response_would_lack_is_refused(
    fields: dict[str, Any], param: str
) -> None:
    async with asked([]) as (_, client):
        body = {"model": "assistant", "input": "weather?", **fields}
        answer = await client.post("/responses", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_what_asks_for_nothing_is_passed_over() -> None:
    nothing: dict[str, Any] = {
        "functions": [],
        "function_call": None,
        "logprobs": False,
        "top_logprobs": 0,
        "logit_bias": {},
        "modalities": ["text"],
        "audio": None,
        "stop": [],
        "prediction": {"type": "content", "content": "x"},
        "store": True,
        "service_tier": "flex",
        "verbosity": "low",
    }
    include: dict[str, Any] = {
        "include": ["reasoning.encrypted_content"],
        "top_logprobs": 0,
    }
    async with asked(["a", "b"]) as (_, client):
        answer = await client.post("/chat/completions", json=chat(**nothing))
        assert answer.status_code == 200, answer.text
        body = {"model": "assistant", "input": "weather?", **include}
        assert (await client.post("/responses", json=body)).status_code == 200
