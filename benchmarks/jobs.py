"""The jobs that are measured, and how each contender does them.

`noop` does nothing; `completion` asks once; `agent` reads ten messages, asks three
times, calls a tool twice and stores what was said. The Celery app and the bare loop do
by hand what people write; neither has limits, retries or recovery.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp
import httpx
import redis
from celery import Celery

from orchestrator.agent_config import AgentConfig
from orchestrator.redis_url import for_kombu
from workers.agent_manager import AgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.extensions import extend
from workers.tools.registry import ToolRegistry
from workers.tools.tool import tool

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ENDPOINT = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
CALL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a place up.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
QUESTION = "Compare two places."
HISTORY = [
    {"role": role, "content": f"{role} says: " + "what about that place? " * 6}
    for role in ("user", "assistant") * 5
]


@tool(effect="pure")
async def lookup(place: str) -> str:
    """Look a place up."""
    return json.dumps({"place": place, "note": "x" * 160})


class Nothing:
    """An agent that answers at once."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        return AgentResult(content="done")


@extend
def register(manager: AgentManager, tools: ToolRegistry) -> None:
    tools.register(lookup)
    manager.register_agent(AgentConfig(name="noop"), Nothing())
    manager.register_agent(AgentConfig(name="completion", model="scripted"))
    manager.register_agent(AgentConfig(name="tokens", model="tokens"))
    manager.register_agent(
        AgentConfig(name="agent", model="scripted", tools=("lookup",))
    )


app = Celery("by_hand", broker=for_kombu(REDIS), backend=for_kombu(REDIS))
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)
_shared: dict[str, Any] = {}


def clients() -> tuple[httpx.Client, redis.Redis]:
    if not _shared:
        slots = int(os.environ["SLOTS"]) + 10
        limits = httpx.Limits(max_connections=slots, max_keepalive_connections=slots)
        _shared["http"] = httpx.Client(limits=limits, timeout=60)
        _shared["redis"] = redis.Redis.from_url(REDIS, max_connections=slots)
    return _shared["http"], _shared["redis"]


def body_of(kind: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    tools = {"tools": [CALL]} if kind == "agent" else {}
    return {"model": "scripted", "messages": messages, **tools}


def results_of(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the reply's message and, after tool calls, their results."""
    note = json.dumps({"note": "x" * 160})
    calls = reply.get("tool_calls") or ()
    return [
        reply,
        *({"role": "tool", "tool_call_id": c["id"], "content": note} for c in calls),
    ]


@app.task
def by_hand(kind: str, number: int) -> str:
    if kind == "noop":
        return "done"
    http, db = clients()
    key = f"talk:{number}"
    messages = [json.loads(line) for line in db.lrange(key, 0, -1)]
    messages.append({"role": "user", "content": QUESTION})
    while True:
        url, body = f"{ENDPOINT}/chat/completions", body_of(kind, messages)
        reply = http.post(url, json=body).json()["choices"][0]["message"]
        added = results_of(reply)
        messages += added
        db.rpush(key, *map(json.dumps, added))
        if len(added) == 1:
            return str(reply["content"])


async def bare_loop(kind: str, count: int, slots: int) -> None:
    """Do the jobs in this process with nothing around them: the honest limit."""
    gate = asyncio.Semaphore(slots)
    connector = aiohttp.TCPConnector(limit=slots + 10)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def one() -> None:
            messages = list(HISTORY) if kind == "agent" else []
            messages.append({"role": "user", "content": QUESTION})
            async with gate:
                while True:
                    url, body = f"{ENDPOINT}/chat/completions", body_of(kind, messages)
                    async with http.post(url, json=body) as response:
                        reply = (await response.json())["choices"][0]["message"]
                    messages += results_of(reply)
                    if not reply.get("tool_calls"):
                        return

        await asyncio.gather(*(one() for _ in range(count)))
