"""What is sent, and how refusals of it are learned from; quirks by number."""

from __future__ import annotations

import pytest
from aiohttp import web

from conversations.message import Message, ToolCall
from orchestrator.agent_config import AgentConfig
from tests.integration.canned import refusal, whole
from tests.integration.llm_serving import ASKED, ask, provider_at, serving, streaming
from workers.errors import LLMError
from workers.llm import run_provider
from workers.llm.double_script import HttpReply
from workers.llm.provider import FinishReason
from workers.llm.request_body import PICTURE_LEFT_OUT

LIMITED = ASKED.model_copy(update={"max_output_tokens": 9})
THOUGHT = ASKED.model_copy(
    update={
        "messages": (
            Message(role="user", content="hello"),
            Message(
                role="assistant",
                content="",
                reasoning="hm",
                reasoning_field="reasoning_content",
                tool_calls=(ToolCall(id="x", name="look", arguments={}),),
            ),
            Message(role="tool", content="found", tool_call_id="x"),
        )
    }
)
REFUSED_LIMIT = refusal(
    400,
    {
        "error": {
            "message": "Use 'max_completion_tokens' instead.",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
    },
)
REFUSED_REASONING = refusal(
    500,
    {
        "error": {
            "message": "Cannot pass both content and thinking in an assistant"
            " message with tool calls"
        }
    },
)


@streaming
async def test_22_the_other_name_of_the_token_limit_is_learned_once(stream: bool):
    async with serving([REFUSED_LIMIT, "a", "b"]) as (double, provider):
        for _ in range(2):
            await ask(provider, stream, LIMITED)
    first, second, third = (seen.body for seen in double.requests)
    assert first["max_tokens"] == 9
    for body in (second, third):
        assert body["max_completion_tokens"] == 9
        assert "max_tokens" not in body


@streaming
async def test_17_reasoning_is_given_back_under_its_name(stream: bool):
    async with serving(["a"]) as (double, provider):
        await ask(provider, stream, THOUGHT)
    messages = double.requests[0].body["messages"]
    assert isinstance(messages, list)
    assert messages[1]["reasoning_content"] == "hm"


@streaming
async def test_18_reasoning_that_is_refused_is_left_out_from_then_on(stream: bool):
    async with serving([REFUSED_REASONING, "a", "b"]) as (double, provider):
        for _ in range(2):
            await ask(provider, stream, THOUGHT)
    with_reasoning = ["reasoning_content" in str(seen.body) for seen in double.requests]
    assert with_reasoning == [True, False, False]


@streaming
async def test_19_content_is_never_null(stream: bool):
    async with serving(["a"]) as (double, provider):
        await ask(provider, stream, THOUGHT)
    messages = double.requests[0].body["messages"]
    assert isinstance(messages, list)
    assert [message["content"] for message in messages] == ["hello", "", "found"]


@streaming
async def test_20_replayed_arguments_are_json_objects(stream: bool):
    async with serving(["a"]) as (double, provider):
        await ask(provider, stream, THOUGHT)
    assert "'arguments': '{}'" in str(double.requests[0].body["messages"])


@pytest.mark.parametrize(
    "name", ["temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"]
)
async def test_40_sampling_is_sent_exactly_as_wanted(name: str):
    async with serving(["a", "b"]) as (double, provider):
        await ask(provider)
        await ask(provider, request=ASKED.model_copy(update={name: 1}))
    assert name not in double.requests[0].body
    assert double.requests[1].body[name] == 1


NO_STOP = refusal(
    400,
    {
        "error": {
            "message": "Unsupported parameter: 'stop' is not supported with this model",
            "param": "stop",
            "code": "unsupported_parameter",
        }
    },
)
REASONED = "Thought: look it up\nObservation: it rains, I made up"


@streaming
async def test_a_stop_sequence_that_is_refused_ends_the_answer_here(stream: bool):
    asked = ASKED.model_copy(update={"stop": ("\nObservation:",)})
    async with serving([NO_STOP, REASONED, REASONED]) as (double, provider):
        for _ in range(2):
            completion = await ask(provider, stream, asked)
            assert completion.message.content == "Thought: look it up"
    sent = [seen.body.get("stop") for seen in double.requests]
    assert sent == [["\nObservation:"], None, None]


async def test_what_is_heard_of_an_answer_ends_before_a_stop_sequence():
    asked = ASKED.model_copy(update={"stop": ("\nObservation:",)})
    for said, shown in ((REASONED, "Thought: look it up"), ("It is\n", "It is\n")):
        async with serving([said]) as (_, provider):
            heard: list[str] = []
            completion = await run_provider.whole(provider, asked, heard.append)
            assert "".join(heard) == completion.message.content == shown


@streaming
async def test_an_answer_is_not_cut_short_beyond_its_stop_sequence(stream: bool):
    asked = ASKED.model_copy(update={"stop": ("Observation:",)})
    reply = HttpReply(text=REASONED, finish_reason="length")
    async with serving([reply]) as (_, provider):
        completion = await ask(provider, stream, asked)
    assert completion.finish_reason is FinishReason.STOP


SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
AS_DATA = ASKED.model_copy(update={"output_schema": SCHEMA})
LM_STUDIO = refusal(
    400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
)
UNKNOWN_FORMAT = refusal(400, {"error": {"message": "json_schema is not supported"}})


@streaming
async def test_36_a_schema_is_sent_and_a_refused_format_weakened_for_good(stream: bool):
    replies = [UNKNOWN_FORMAT, LM_STUDIO, "{}", "{}"]
    async with serving(replies) as (double, provider):
        for _ in range(2):
            await ask(provider, stream, AS_DATA)
    formats = [seen.body.get("response_format") for seen in double.requests]
    kinds = [f["type"] if isinstance(f, dict) else None for f in formats]
    assert kinds == ["json_schema", "json_object", None, None]


ROLES = refusal(
    500, {"error": {"message": "Jinja Exception: Conversation roles must alternate"}}
)


@streaming
async def test_an_order_that_is_refused_is_changed_for_good(stream: bool):
    asked = ASKED.model_copy(update={"messages": 2 * ASKED.messages})
    async with serving([ROLES, "a", "b"]) as (double, provider):
        for _ in range(2):
            await ask(provider, stream, asked)
    assert [len(seen.body["messages"]) for seen in double.requests] == [2, 1, 1]


MADE_UP = Message(role="assistant", tool_calls=({"id": "c1", "name": "a.look"},))
NOT_FOUND = Message(role="tool", tool_call_id="c1", content="there is no tool 'a.look'")
PATTERN = refusal(
    400,
    {
        "error": {
            "message": "Invalid 'messages[1].tool_calls[0].function.name': string does"
            " not match pattern. Expected a string that matches '^[a-zA-Z0-9_-]+$'."
        }
    },
)


@streaming
async def test_a_made_up_name_that_is_refused_does_not_end_the_talk(stream: bool):
    messages = (*ASKED.messages, MADE_UP, NOT_FOUND)
    asked = ASKED.model_copy(update={"messages": messages})
    async with serving([PATTERN, "a", "b"]) as (double, provider):
        for _ in range(2):
            await ask(provider, stream, asked)
    bodies = [seen.body["messages"][-2]["tool_calls"][0] for seen in double.requests]
    names = [call["function"]["name"] for call in bodies]
    assert names == ["a.look", "a_look", "a_look"]


SHOWN = Message(
    role="user", content="What is it?", images=({"url": "https://example.com/a.png"},)
)
MULTIMODAL = refusal(400, {"error": {"message": "m is not a multimodal model"}})
IMAGES = refusal(500, {"error": {"message": "image input is not supported"}})


@streaming
async def test_a_picture_that_is_refused_does_not_end_the_talk(stream: bool):
    shown = ASKED.model_copy(update={"messages": (SHOWN,)})
    later = ASKED.model_copy(update={"messages": (SHOWN, *ASKED.messages)})
    async with serving([MULTIMODAL, IMAGES, "a"]) as (double, provider):
        with pytest.raises(LLMError, match=r"image|multimodal"):
            await ask(provider, stream, shown)
        await ask(provider, stream, later)
    first, again, third = (seen.body["messages"] for seen in double.requests)
    assert first == again
    assert third[0]["content"] == f"What is it?\n{PICTURE_LEFT_OUT}"


async def test_24_ollama_is_asked_for_the_context_of_a_loaded_model_once():
    ollama = whole({"content": "a"}, system_fingerprint="fp_ollama")
    async with serving([ollama]) as (double, provider):
        assert await provider.context_tokens("m") is None
        double.context_tokens = 4096
        await ask(provider)
        assert await provider.context_tokens("m") == 4096
        double.context_tokens = 8192
        assert await provider.context_tokens("m") == 4096


@pytest.mark.parametrize(
    "body", ["{}", "[", "[" * 100_000, "x" * 3_000_000, '{"models": 3}']
)
async def test_24_an_odd_list_of_loaded_models_tells_nothing(body: str):
    async def loaded(_: web.Request) -> web.Response:
        return web.Response(text=body)

    ollama = whole({"content": "a"}, system_fingerprint="fp_ollama")

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=ollama.body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/api/ps", loaded)
    application.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    async with provider_at(url) as provider:
        await ask(provider)
        assert await provider.context_tokens("m") is None
    await runner.cleanup()


@streaming
async def test_23_an_agent_always_limits_its_answer(stream: bool):
    """Nobody has to think of it: a looping model would block a server's only slot."""
    most = AgentConfig(name="a").max_output_tokens
    assert most is not None
    async with serving(["a"]) as (double, provider):
        asked = ASKED.model_copy(update={"max_output_tokens": most})
        await ask(provider, stream, asked)
    assert double.requests[0].body["max_tokens"] == most
