"""A NUL on its way into a history is a client's error, at every door."""

from __future__ import annotations

import pytest

from tests.unit.orchestrator.http.serving import serving

NUL, PART = "a\x00b", {"type": "input_text", "text": "a\x00b"}
SAID = {"role": "user", "content": NUL}
OUTPUT = {"type": "function_call_output", "call_id": "c\x00", "output": "x"}
CALL = {"type": "function_call", "call_id": "c\x00", "name": "f", "arguments": "{}"}
ARGUED = {"name": "f", "arguments": r'{"a": {"b": "\u0000"}}'}
HAS_ARGUED = {"type": "function_call", "call_id": "c", **ARGUED}
ANSWERED = {"type": "function_call_output", "call_id": "c", "output": "x"}
CHAT = [
    SAID | {"content": "a"},
    {"role": "assistant", "tool_calls": [{"id": "c", "function": ARGUED}]},
    {"role": "tool", "tool_call_id": "c", "content": "x"},
]
UNSTORED = {"model": "assistant", "store": False}
ASKED = {"model": "assistant", "background": True}
DOORS = {
    "a question": ("/v1/responses", {**ASKED, "input": NUL}),
    "an item": ("/v1/responses", {**ASKED, "input": [SAID]}),
    "a part": ("/v1/responses", {**ASKED, "input": [{**SAID, "content": [PART]}]}),
    "a call id": ("/v1/responses", {**ASKED, "input": [CALL, OUTPUT]}),
    "arguments": ("/v1/responses", {**ASKED, "input": [HAS_ARGUED, ANSWERED]}),
    "arguments of a response that is not stored": (
        "/v1/responses",
        {**UNSTORED, "input": [HAS_ARGUED, ANSWERED]},
    ),
    "arguments in a chat": (
        "/v1/chat/completions",
        {"model": "assistant", "messages": CHAT},
    ),
    "a task": (
        "/tasks",
        {"agent": "assistant", "input": {"prompt": NUL}, "conversation_id": "talk"},
    ),
    "an item of a conversation": (
        "/v1/conversations/talk/items",
        {"items": [{"type": "message", **SAID}]},
    ),
    "a new conversation": (
        "/v1/conversations",
        {"items": [{"type": "message", **SAID}]},
    ),
    "metadata": ("/v1/conversations", {"metadata": {"a": NUL}}),
}


@pytest.mark.parametrize("door", DOORS)
async def test_a_nul_is_refused_and_nothing_is_stored(door: str) -> None:
    path, body = DOORS[door]
    async with serving() as served:
        await served.orchestrator.conversations.create(conversation_id="talk")
        answer = await served.client.post(path, json=body)
        assert answer.status_code in {400, 422}
        assert "NUL" in answer.text
        page = await served.orchestrator.conversations.list()
        assert [each.id for each in page.conversations] == ["talk"]
        assert await served.orchestrator.conversations.get_messages("talk") == ()
        assert (await served.orchestrator.list()).tasks == ()
