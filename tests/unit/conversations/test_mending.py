"""What is made of text that no record may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations.client_calls import CLIENT_FACT, client_calls_of
from conversations.json_value import NotStorable, check_json, check_no_nul
from conversations.mending import mended, mended_json
from conversations.message import Message, Role, ToolCall
from conversations.record import write_message
from conversations.shortening import shortened

anything = st.text(st.characters(), max_size=30)  # surrogates too
values = st.recursive(
    st.none() | st.integers() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner),
    max_leaves=10,
)


def test_halves_of_a_surrogate_pair_are_joined_and_a_lone_one_is_replaced():
    assert mended("\ud83d" + "\ude00") == "😀"
    assert mended("a\ud83d\0") == "a\ufffd\ufffd"
    assert mended("plain") == "plain"


@given(values)
def test_whatever_is_mended_can_be_stored_and_stays_as_it_is(value: Any):
    whole = mended_json(value)
    check_json(whole)
    check_no_nul(whole)
    assert mended_json(whole) == whole


def test_what_holds_itself_is_refused_at_once():
    value: list[Any] = []
    value += [value, value]
    with pytest.raises(NotStorable, match="nested deeper"):
        mended_json(value)


sizes = st.integers(min_value=0, max_value=3000)


@given(
    st.text(st.characters(codec="utf-8"), max_size=3000),
    st.lists(st.text(max_size=2000), max_size=3),
    sizes,
    sizes,
    st.integers(min_value=1024, max_value=4000),
)
def test_a_message_of_any_size_is_shortened_to_the_limit(
    content: str, arguments: list[str], reasoning: int, facts: int, most: int
):
    calls = tuple(
        ToolCall(id=str(number), name="look", arguments={"text": text})
        for number, text in enumerate(arguments)
    )
    message = Message(
        role=Role.ASSISTANT,
        content=f"begin {content}",
        tool_calls=calls,
        reasoning="r" * reasoning,
        metadata={CLIENT_FACT: ["0"], "facts": "f" * facts},
    )
    kept = shortened(message, max_bytes=most)
    size = len(write_message(kept).encode())
    assert size <= most
    assert [call.id for call in kept.tool_calls] == [call.id for call in calls]
    assert client_calls_of(kept) == {"0"}
    assert kept.content.startswith("begin")
    assert Message.model_validate(json.loads(write_message(kept))) is not None
    if len(write_message(message).encode()) <= most:
        assert kept == message


def test_a_text_that_is_dearer_at_its_beginning_is_cut_until_it_fits() -> None:
    text = "\x01" * 1000 + "a" * 100_000
    kept = shortened(
        Message(role=Role.TOOL, tool_call_id="a", content=text), max_bytes=2000
    )
    assert 200 < len(kept.content) < 2000
    assert len(write_message(kept).encode()) <= 2000
