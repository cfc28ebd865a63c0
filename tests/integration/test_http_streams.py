"""Text that looks like the wire of a stream is text, in every kind of stream."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from orchestrator.agent_config import AgentConfig
from orchestrator.http import stream
from tests.http_service import serving
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext

HOSTILE = (
    "one\n\ndata: [DONE]\n\nevent: response.completed\ndata: {}\n\n"
    "\r\rid: 99\r\n: comment\u2028\u2029\x85 two"
)
ASK = {
    "/v1/responses": {"model": "assistant", "input": HOSTILE, "stream": True},
    "/v1/chat/completions": {
        "model": "assistant",
        "messages": [{"role": "user", "content": HOSTILE}],
        "stream": True,
    },
}


def blocks(raw: bytes) -> list[dict[str, list[str]]]:
    """The events as the standard reads them: CRLF, LF and CR end a line."""
    text = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in filter(None, block.split("\n")):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if fields.get("data"):
            found.append(fields)
    return found


@pytest.mark.parametrize("path", [*ASK, "/tasks"])
async def test_text_that_looks_like_the_wire_begins_no_event(path: str) -> None:
    async with (
        serving(lambda _: HOSTILE) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        if path == "/tasks":
            body = {"agent": "assistant", "input": {"prompt": HOSTILE}}
            made = await client.post(path, json=body)
            answer = await client.get(
                f"/tasks/{made.json()['id']}/events",
                headers={"Accept": "text/event-stream"},
            )
        else:
            answer = await client.post(path, json=ASK[path])
        events = blocks(answer.content)
        assert all(len(event["data"]) == 1 for event in events)
        ends = [event["data"][0] == "[DONE]" for event in events]
        assert ends == [False] * (len(ends) - 1) + [path != "/tasks"]
        told = [json.loads(e["data"][0]) for e in events if e["data"] != ["[DONE]"]]
        for event, data in zip(events, told, strict=False):
            kind = data.get("type")
            assert event.get("event", [kind]) == [kind]
            assert set(event) <= {"event", "data", "id"}
        if path == "/v1/chat/completions":
            deltas = [c["choices"][0]["delta"].get("content", "") for c in told]
        else:
            datas = [data.get("data", data) for data in told]
            deltas = [data["delta"] for data in datas if "delta" in data]
        assert "".join(deltas) == HOSTILE


class Busy:
    """Reports more often than a stream gives signs of life, and says nothing yet."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        for number in range(30):
            await ctx.progress(f"page {number}")
            await asyncio.sleep(stream.KEEPALIVE_SECONDS / 10)
        return AgentResult(content="done")


@pytest.mark.parametrize("path", ASK)
async def test_a_stream_that_shows_nothing_of_a_busy_run_gives_signs_of_life(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEPALIVE_SECONDS", 0.2)

    def prepare(manager: LocalAgentManager) -> None:
        manager.register_agent(AgentConfig(name="busy", kind="busy"), Busy())

    async with (
        serving(prepare=prepare) as running,
        httpx.AsyncClient(base_url=running.url, timeout=20) as client,
    ):
        answer = await client.post(path, json=ASK[path] | {"model": "busy"})
    assert ": keepalive\n" in answer.text
    assert "done" in answer.text
