from __future__ import annotations

import asyncio

import pytest

from conversations.message import ToolCall
from orchestrator.task import Task
from workers.errors import InvalidAgent, ToolFailed, UnknownTool
from workers.tools.document_summarizer import DocumentSummarizer
from workers.tools.registry import MAX_RESULT_BYTES, ToolRegistry
from workers.tools.tool import ToolContext, ToolResult, tool

CONTEXT = ToolContext(task=Task(agent_name="a"), agent_name="a", idempotency_key="k")


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def say(text: str, times: int = 1) -> str:
    """Say."""
    return text * times


async def call(registry: ToolRegistry, name: str, **arguments: object) -> ToolResult:
    made = ToolCall.model_validate({"id": "c1", "name": name, "arguments": arguments})
    return await registry.call(made, CONTEXT, allowed=registry.names)


def test_tools_and_functions_are_registered_under_their_names() -> None:
    registry = ToolRegistry()
    registry.register(DocumentSummarizer())
    registry.register(add)
    registry.register(tool(name="speak")(say))
    assert registry.names == ("summarize_document", "add", "speak")
    assert [spec.name for spec in registry.specs(["speak", "add"])] == ["speak", "add"]
    assert registry.find_tool("nope") is None
    with pytest.raises(UnknownTool, match="no tool 'nope'; the tools are: summarize"):
        registry.get_tool("nope")


def test_taken_name_is_refused() -> None:
    with pytest.raises(InvalidAgent, match="'add' is registered already"):
        ToolRegistry([add, add])


async def test_data_is_shown_as_json_and_kept_as_data() -> None:
    result = await call(ToolRegistry([add]), "add", a=1, b=2)
    assert (result.content, result.output, result.error) == ("3", 3, None)


async def test_text_is_shown_as_it_is() -> None:
    result = await call(ToolRegistry([say]), "say", text="hi")
    assert (result.content, result.output, result.error) == ("hi", None, None)


async def test_errors_are_results_for_the_model() -> None:
    registry = ToolRegistry([add])
    unknown = await call(registry, "subtract")
    assert unknown.error == "unknown_tool"
    assert unknown.content == "there is no tool 'subtract'; the tools are: add"
    invalid = await call(registry, "add", a="x")
    assert invalid.error == "invalid_tool_arguments"
    assert "b: Field required" in invalid.content


async def test_tool_that_is_not_allowed_is_not_run_whatever_the_model_asks() -> None:
    ran: list[str] = []

    def wipe() -> None:
        ran.append("wipe")

    registry = ToolRegistry([wipe, add])
    made = ToolCall(id="c1", name="wipe")
    result = await registry.call(made, CONTEXT, allowed=("add",))
    assert result.error == "unknown_tool"
    assert "wipe" not in result.content.split("the tools are:")[1]
    assert ran == []


async def test_flood_of_text_is_cut_visibly() -> None:
    result = await call(ToolRegistry([say]), "say", text="å", times=100_000)
    assert len(result.content.encode()) < MAX_RESULT_BYTES + 200
    assert result.content.endswith(
        f"[cut here: {MAX_RESULT_BYTES} of 200000 bytes are shown; ask for less]"
    )


async def test_error_text_that_cannot_be_stored_is_made_so() -> None:
    def fail() -> None:
        raise ToolFailed("bad \ud800 text")

    result = await call(ToolRegistry([fail]), "fail")
    assert result.content == "bad \ufffd text"


async def test_cancellation_passes() -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(call(ToolRegistry([hang]), "hang"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
