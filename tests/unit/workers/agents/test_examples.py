from __future__ import annotations

import pytest

from conversations.message import ToolCall
from examples.order_desk import answer, main
from workers.llm.scripted import ScriptedLLMProvider


async def test_order_desk_looks_an_order_up_and_asks_for_a_call() -> None:
    llm = ScriptedLLMProvider(
        replies=[
            [
                ToolCall(id="1", name="find_order", arguments={"number": "A-17"}),
                ToolCall(id="2", name="ask_for_call", arguments={"number": "A-17"}),
            ],
            "It is on its way, and we call you.",
        ]
    )
    result = await answer("Where is A-17? Call me.", llm)
    assert result.content == "It is on its way, and we call you."
    found, noted = [message.content for message in llm.requests[1].messages[-2:]]
    assert found == '{"number":"A-17","status":"on its way"}'
    assert noted.startswith("noted for Ann: call about A-17 (")


async def test_order_desk_asks_the_configured_endpoint_and_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(SystemExit, match="no LLM endpoint answers at http"):
        await main("Where is A-17?")
