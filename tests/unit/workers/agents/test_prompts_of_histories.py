"""Every prompt is one that a strict server takes, or we refuse it ourselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import (
    ContextTooLong,
    Conversation,
    ConversationConfig,
    Message,
    Role,
    ToolCall,
)
from conversations.closing import closing_messages
from conversations.fitting import fit_history, fit_turn
from conversations.history import open_after
from conversations.memory_store import InMemoryConversationStore
from conversations.view import read_view
from conversations.window import tokens_of
from tests.unit.conversations.histories import answer, user
from tests.unit.workers.agents.strict_server import check_messages
from tests.unit.workers.agents.strict_templates import check_strict
from workers.agents.agent import AgentInput
from workers.agents.turn_messages import opening_of_turn
from workers.llm.provider import CompletionRequest
from workers.llm.request_body import Dialect, chat_body

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200).filter(
    str.strip
)
ids = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)


def calls(names: Sequence[str], text: str = "") -> Message:
    made = tuple(ToolCall(id=name, name="look") for name in names)
    return Message(role=Role.ASSISTANT, content=text, tool_calls=made)


def results(names: Sequence[str], text: str) -> list[Message]:
    return [Message(role=Role.TOOL, tool_call_id=n, content=text) for n in names]


plain = st.builds(lambda a, b: [user(a), answer(b)], texts, texts)
steered = st.builds(lambda a, b, c: [user(a), user(b), answer(c)], texts, texts, texts)
with_tools = st.builds(
    lambda q, n, r, a: [user(q), calls(n), *results(n[::-1], r), answer(a)],
    *(texts, ids, texts, texts),
)
# May be told to answer now, or be steered, right after its tools.
under_way = st.builds(
    lambda work, orders: [*work[:-1], *orders, work[-1]],
    with_tools,
    st.lists(texts.map(user), max_size=1),
)
cut_short = st.builds(
    lambda q, said, ended: list(closing_messages([user(q)], said=said, ended=ended)),
    texts,
    st.lists(texts, max_size=2),
    st.sampled_from(["cancelled", "failed", "timed_out"]),
)
# Ends with calls of the client's; where no outputs follow, the next turn passes over.
handed_over = st.builds(
    lambda q, n, r: [user(q), calls(n), *results(n[1:], r)], texts, ids, texts
)
summarised = st.builds(
    lambda text, covers, q, a: [
        Message(role=Role.SYSTEM, content=text, covers=covers),
        user(q),
        answer(a),
    ],
    *(texts, st.integers(min_value=1, max_value=30), texts, texts),
)
pinned = texts.map(lambda t: [Message(role=Role.USER, content=t, pinned=True)])
rules = texts.map(lambda t: [Message(role=Role.SYSTEM, content=t)])
turn = plain | steered | with_tools | cut_short | handed_over | summarised | pinned
histories = st.lists(turn | rules, max_size=10)
configs = st.builds(
    lambda most, share, tokens: ConversationConfig(
        max_messages=most, context_window=max(1, most // share), context_tokens=tokens
    ),
    st.integers(min_value=1, max_value=30),
    st.integers(min_value=1, max_value=3),
    st.none() | st.integers(min_value=20, max_value=600),
)


async def window_of(
    turns: Sequence[Sequence[Message]], config: ConversationConfig, gone: int, fork: int
) -> tuple[Message, ...]:
    """What a run sees of turns that were stored, cut, forked and partly deleted."""
    store, name = InMemoryConversationStore(), "talk"
    await store.create(Conversation(id=name, config=config))
    for number, messages in enumerate(turns):
        await store.append("default", name, messages, turn=f"t{number}")
    kept = await store.read("default", name, limit=1000)
    followers = [each.message.role for each in kept[1:]] + [None]
    ends = [
        each.seq
        for each, after in zip(kept, followers[: len(kept)], strict=True)
        if after is not Role.TOOL
    ]
    if fork < len(ends):
        await store.fork("default", name, Conversation(id="side"), at=ends[fork])
        name = "side"
    last = ends[fork] if fork < len(ends) else 10_000
    if gone < len(kept) and kept[gone].seq <= last:
        await store.delete_message("default", name, kept[gone].seq)
    return (await read_view(store, "default", name)).messages()


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    histories,
    configs,
    st.integers(min_value=0, max_value=60),
    st.integers(min_value=0, max_value=60),
    st.booleans(),
    under_way,
)
def test_every_prompt_is_valid_for_a_strict_server(
    turns: list[list[Message]],
    config: ConversationConfig,
    gone: int,
    fork: int,
    answers: bool,
    work: list[Message],
) -> None:
    seen = asyncio.run(window_of(turns, config, gone, fork))
    data = {"prompt": work[0].content}
    awaited = sorted(open_after(seen))
    if answers and awaited:
        outputs = [*results(awaited[:1], "found"), work[0]]
        dumped = [each.model_dump(mode="json") for each in outputs]
        data = {"messages": dumped}
    agent_input = AgentInput(data=data, messages=seen)
    head = [Message(role=Role.SYSTEM, content="Be brief."), *seen]
    messages = [*opening_of_turn(agent_input), *work[1:-1]]
    if config.context_tokens is not None:
        tokens = config.context_tokens
        try:
            head = list(fit_history(head, messages, tokens=tokens))
            messages = list(fit_turn(head, messages, tokens=tokens))
        except ContextTooLong:
            return
        assert sum(map(tokens_of, [*head, *messages])) <= tokens
    request = CompletionRequest(messages=(*head, *messages))
    check_messages(sent(request, "any"))
    for order in ("strict", "no_system"):
        prompt = sent(request, order)
        check_messages(prompt)
        check_strict(prompt, system_role=order == "strict")
        assert words(prompt) >= words(sent(request, "any"))


def sent(request: CompletionRequest, order: str) -> list[dict[str, Any]]:
    dialect = Dialect(message_order=order)
    return chat_body(request, model="m", dialect=dialect, stream=False)["messages"]


def words(prompt: list[dict[str, Any]]) -> Counter[str]:
    return Counter(word for message in prompt for word in message["content"].split())


def test_outputs_of_a_clients_calls_find_them_in_the_smallest_window() -> None:
    last = [user("Both?"), calls("ab"), *results("b", "here")]
    config = ConversationConfig(max_messages=1, context_window=1, context_tokens=1)
    seen = asyncio.run(window_of([[user("a"), answer("b")], last], config, 99, 99))
    assert seen[-2:] == tuple(last[1:])
