"""A scripted reply as the JSON that an endpoint sends, whole or in chunks.

Everything here says that it was scripted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pydantic import JsonValue

from conversations.json_value import JsonObject
from workers.llm.reply import Reply, ScriptedCall

FINGERPRINT = "scripted"
"""`system_fingerprint` of every answer."""
OWNER = "celeriac-double"
"""`owned_by` of every model that a double lists."""
_CHARS_PER_TOKEN = 4
"""A rough estimate, the usual one for English; nothing counted tokens."""


def whole_body(reply: Reply, *, model: str, prompt_chars: int) -> JsonObject:
    """Return the one document that answers a request that does not stream."""
    message: JsonObject = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [_call(call) for call in reply.tool_calls]
    choice: JsonObject = {
        "index": 0,
        "message": message,
        "finish_reason": reply.ending(),
    }
    body = _envelope("chat.completion", model, [choice])
    return body | {"usage": _usage(reply, prompt_chars)}


def chunk_bodies(
    reply: Reply, *, model: str, prompt_chars: int
) -> Iterator[JsonObject]:
    """Yield the events of a stream, usage last, without the closing `[DONE]`."""
    for delta in _deltas(reply):
        yield _chunk(model, delta, None)
    yield _chunk(model, {}, reply.ending())
    yield _envelope("chat.completion.chunk", model, []) | {
        "usage": _usage(reply, prompt_chars)
    }


def _deltas(reply: Reply) -> Iterator[JsonObject]:
    yield {"role": "assistant", "content": ""}
    if reply.reasoning:
        yield {"reasoning": reply.reasoning}
    for words in re.findall(r"\s*\S+\s*", reply.text):
        yield {"content": words}
    for index, call in enumerate(reply.tool_calls):
        whole = _call(call) | {"index": index}
        text = _arguments(call)
        middle = len(text) // 2
        head: JsonObject = {"name": call.name, "arguments": text[:middle]}
        yield {"tool_calls": [whole | {"function": head}]}
        rest: JsonObject = {"index": index, "function": {"arguments": text[middle:]}}
        yield {"tool_calls": [rest]}


def _call(call: ScriptedCall) -> JsonObject:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _arguments(call)},
    }


def _arguments(call: ScriptedCall) -> str:
    given = call.arguments
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _chunk(model: str, delta: JsonObject, finish_reason: str | None) -> JsonObject:
    choice: JsonObject = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _envelope("chat.completion.chunk", model, [choice])


def _envelope(kind: str, model: str, choices: list[JsonValue]) -> JsonObject:
    return {
        "id": "chatcmpl-scripted",
        "object": kind,
        "created": 0,
        "model": model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }


def _usage(reply: Reply, prompt_chars: int) -> JsonObject:
    answer = len(reply.text) + len(reply.reasoning)
    answer += sum(len(_arguments(call)) for call in reply.tool_calls)
    prompt_tokens = -(-prompt_chars // _CHARS_PER_TOKEN)
    completion_tokens = -(-answer // _CHARS_PER_TOKEN)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
