"""The demo's scripted model: it looks things up and quotes, and invents nothing.

Every sentence of its answers is copied from a tool result or from the text that it was
given, with the citation that stood there. It decides by the request alone, so the same
request always gets the same reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from conversations.json_value import JsonObject
from workers.llm.extracts import (
    Extract,
    closest,
    find_extracts,
    most_central,
    plain_sentences,
    plain_words,
)
from workers.llm.reply import Reply, ScriptedCall, default_text

_SEARCH, _READ = "search_documents", "read_document"
_ANSWER_SENTENCES = 4
_SUMMARY_SENTENCES = 3
_LINES_READ = 40
_LINES_BEFORE = 5
"""Read above the best hit, so that its paragraph begins in view."""
_QUESTION_FIELDS = ("query", "question", "prompt", "message", "text", "input")


def demo_reply(body: JsonObject) -> Reply:
    """Return what the scripted model says to the body of a chat completion."""
    messages = _objects(body.get("messages"))
    turn = _this_turn(messages)
    question = _question(turn)
    results = [_content(m) for m in turn if m.get("role") == "tool"]
    extracts = find_extracts("\n\n".join(results))
    call = _next_calls(_tool_names(body), _called(turn), question, extracts)
    if call:
        return Reply(tool_calls=call)
    if results:
        return Reply(text=_answer(extracts, question))
    if any("summar" in _content(m).lower() for m in messages):
        summary = _summary(question)
        if summary:
            return Reply(text=summary)
    return Reply(text=default_text(str(body.get("model")), "the scripted double"))


def _next_calls(
    tools: set[str], called: set[str], question: str, extracts: Sequence[Extract]
) -> tuple[ScriptedCall, ...]:
    if _SEARCH in tools and _SEARCH not in called:
        queries = _queries(question)
        return tuple(
            ScriptedCall(name=_SEARCH, arguments={"query": q}) for q in queries
        )
    best = closest(extracts, question, limit=1)
    if best and _READ in tools and _READ not in called:
        place = best[0]
        arguments: JsonObject = {
            "path": place.document,
            "start_line": max(1, place.line - _LINES_BEFORE),
            "lines": _LINES_READ,
        }
        return (ScriptedCall(name=_READ, arguments=arguments),)
    return ()


def _queries(question: str) -> list[str]:
    """Return the question's words, and its longest ones alone."""
    words = list(dict.fromkeys(plain_words(question))) or [question[:200] or "overview"]
    longest = sorted(words, key=len, reverse=True)[:3]
    narrow = [word for word in words if word in longest]
    return [" ".join(words[:12])] + ([" ".join(narrow)] if len(words) > 3 else [])


def _answer(extracts: Sequence[Extract], question: str) -> str:
    chosen = closest(extracts, question, limit=_ANSWER_SENTENCES)
    if not chosen:
        return (
            "The scripted double found no sentence in the documents that shares a word"
            " with the question; no model was called."
        )
    return "\n".join(map(str, chosen))


def _summary(text: str) -> str:
    extracts = find_extracts(text) or plain_sentences(text)
    return "\n".join(map(str, most_central(extracts, limit=_SUMMARY_SENTENCES)))


def _this_turn(messages: Sequence[JsonObject]) -> Sequence[JsonObject]:
    """Return the messages after the last finished answer."""
    finished = [
        position
        for position, message in enumerate(messages)
        if message.get("role") == "assistant" and not message.get("tool_calls")
    ]
    return messages[finished[-1] + 1 :] if finished else messages


def _question(turn: Sequence[JsonObject]) -> str:
    """Return the first thing that the user says, without its wrapping."""
    text = next((_content(m) for m in turn if m.get("role") == "user"), "")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        asked = (fields.get(name) for name in _QUESTION_FIELDS)
        return next((a for a in asked if isinstance(a, str) and a.strip()), text)
    labelled = re.search(r"^question:\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return labelled[1] if labelled else text


def _tool_names(body: JsonObject) -> set[str]:
    if body.get("tool_choice") == "none":
        return set()
    functions = (tool.get("function") for tool in _objects(body.get("tools")))
    return {str(f.get("name")) for f in functions if isinstance(f, dict)}


def _called(turn: Sequence[JsonObject]) -> set[str]:
    calls = [call for m in turn for call in _objects(m.get("tool_calls"))]
    functions = (call.get("function") for call in calls)
    return {str(f.get("name")) for f in functions if isinstance(f, dict)}


def _content(message: JsonObject) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _objects(value: object) -> list[JsonObject]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]
