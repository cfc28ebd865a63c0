"""What messages are said to take, once an endpoint has counted some."""

from __future__ import annotations

import pytest

from conversations.message import Message, Role
from conversations.window import estimate_tokens
from orchestrator.task import Usage
from workers.prompt_tokens import RATIO_LIMITS, Exchange, counted


def exchange(answer: Message, *, prompt: int = 100, **usage: int) -> Exchange:
    return Exchange(prompt, answer, Usage(**usage))


def said(content: str) -> Message:
    return Message(role=Role.ASSISTANT, content=content)


def test_each_answer_takes_what_was_counted_of_it_also_beside_its_like() -> None:
    first, second = said("ok"), said("ok")
    exchanges = [
        exchange(first, input_tokens=100, output_tokens=3),
        exchange(second, input_tokens=100, output_tokens=9, reasoning_tokens=2),
    ]
    turn = counted([first, second, said("ok")], exchanges)
    assert [each.tokens for each in turn] == [3, 7, 7]


@pytest.mark.parametrize(("read", "bound"), [(1, 0), (100_000, 1)])
def test_an_endpoint_that_counts_something_else_moves_an_estimate_only_so_far(
    read: int, bound: int
) -> None:
    question = Message(role=Role.USER, content="word " * 100)
    exchanges = [exchange(said("ok"), input_tokens=read, output_tokens=1)]
    (message,) = counted([question], exchanges)
    assert message.tokens == round(estimate_tokens(question) * RATIO_LIMITS[bound])
