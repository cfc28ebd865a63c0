"""Histories for the tests of this room: builders and hypothesis strategies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from conversations import Conversation, Message, Role, StoredMessage, ToolCall
from conversations.transcript import head_line, message_line

patient = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
"""For property tests on machines that are busy with something else."""
AT = datetime(2025, 1, 31, 12, 30, 15, 250_000, tzinfo=UTC)


def system(text: str = "be brief") -> Message:
    return Message(role=Role.SYSTEM, content=text)


def user(text: str = "question") -> Message:
    return Message(role=Role.USER, content=text)


def answer(text: str = "answer") -> Message:
    return Message(role=Role.ASSISTANT, content=text)


def calls(*ids: str) -> Message:
    made = tuple(ToolCall(id=each, name="look") for each in ids)
    return Message(role=Role.ASSISTANT, tool_calls=made)


def result(call_id: str, text: str = "found") -> Message:
    return Message(role=Role.TOOL, tool_call_id=call_id, content=text)


def transcript_of(
    conversation: Conversation, history: Sequence[StoredMessage]
) -> list[str]:
    last = history[-1].seq if history else 0
    changes = {"last_seq": last, "dropped_messages": last - len(history)}
    head = head_line(conversation.model_copy(update=changes))
    return [head, *map(message_line, history)]


_characters = st.characters(codec="utf-8", exclude_characters="\0")
texts = st.text(_characters, min_size=1, max_size=80).filter(str.strip)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)


@st.composite
def tool_groups(draw: st.DrawFn) -> list[Message]:
    """An assistant's calls and their results in any order."""
    ids = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    made = tuple(
        ToolCall(id=each, name="look", arguments=draw(json_objects)) for each in ids
    )
    results = [result(each, draw(texts)) for each in draw(st.permutations(ids))]
    return [Message(role=Role.ASSISTANT, tool_calls=made), *results]


groups = st.one_of(
    texts.map(lambda text: [user(text)]),
    texts.map(lambda text: [answer(text)]),
    texts.map(lambda text: [system(text)]),
    tool_groups(),
)
histories = st.lists(groups, max_size=12).map(
    lambda parts: [message for part in parts for message in part]
)


@st.composite
def stored_histories(
    draw: st.DrawFn,
    *,
    metadata: st.SearchStrategy[dict[str, object]] = json_objects,
    gaps: bool = False,
) -> list[StoredMessage]:
    """Valid histories in whole turns, as a store would hold them."""
    seq = draw(st.integers(min_value=0, max_value=1000))
    stored: list[StoredMessage] = []
    for number, messages in enumerate(draw(st.lists(histories, max_size=4))):
        turn = f"turn-{number}" if draw(st.booleans()) else None
        for message in messages:
            seq += draw(st.sampled_from([1, 1, 1, 5])) if gaps else 1
            kept = message.model_copy(update={"metadata": draw(metadata)})
            stored.append(
                StoredMessage(seq=seq, turn=turn, created_at=AT, message=kept)
            )
    return stored
