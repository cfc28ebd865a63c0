"""What the strictest servers refuse in a request's messages, from their point of view.

Knows nothing of how a prompt is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROLES = {"system", "user", "assistant", "tool"}


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise AssertionError where a server would answer 400."""
    assert messages, "no messages"
    awaited: set[str] = set()
    for place, message in enumerate(messages):
        role = message["role"]
        assert role in ROLES, f"messages[{place}]: role {role!r}"
        assert message["content"] is not None, f"messages[{place}]: null content"
        if role == "tool":
            assert message["tool_call_id"] in awaited, f"messages[{place}]: orphan"
            awaited.remove(message["tool_call_id"])
            continue
        assert not awaited, f"messages[{place}]: calls before it have no results"
        if role == "assistant":
            calls = [call["id"] for call in message.get("tool_calls", ())]
            assert len(calls) == len(set(calls)), f"messages[{place}]: call ids repeat"
            assert calls or message["content"].strip(), f"messages[{place}]: empty"
            awaited = set(calls)
        else:
            assert message["content"].strip(), f"messages[{place}]: empty"
    assert not awaited, "calls at the end have no results"
    assert any(message["role"] == "user" for message in messages), "no user message"
