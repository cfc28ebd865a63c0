"""The page on a stage: the real service, agents that run, and a model from a script.

Run it to look around: `python -m tests.browser.stage`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn

from conversations.json_value import JsonObject
from orchestrator.agent_config import AgentConfig
from orchestrator.events import EventType, NewEvent
from orchestrator.http.app import create_app
from orchestrator.http.server import protocol_of
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import Settings, load_settings
from orchestrator.store import Ending, Lease, TaskStore
from orchestrator.task import (
    AwaitedCall,
    Task,
    TaskFailure,
    TaskResult,
    TaskStats,
    TaskStatus,
    Usage,
)
from workers.agent_manager import LocalAgentManager
from workers.in_process import open_orchestrator
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.reply import Reply, Scripted, ScriptedCall
from workers.tools.registry import ToolRegistry
from workers.tools.tool import tool

QUESTION = "Where is order A-17, and what became of B-99?"
ANSWER = (
    "Order A-17 left the warehouse this morning and arrives tomorrow before noon."
    " I could not find an order B-99; please check the number on the invoice."
)
HOSTILE = (
    "<script>document.title='pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\">"
    "</pre></details><a href=\"javascript:document.title='pwned'\">click</a>"
    "{{ 7*7 }} \u202egnp.exe \x1b[31m"
)
PAYMENT = "Refund order A-18 to the customer"
NOBODY = "payments"
"""An agent that the stage's worker does not serve: its tasks move by hand."""
HOUR = 3600.0


@tool(effect="pure")
async def find_order(number: str) -> dict[str, str]:
    """Look an order up.

    Args:
        number: The order's number.
    """
    await asyncio.sleep(PACE.seconds / 2)
    if number != "A-17":
        raise KeyError(f"no order has the number {number}")
    return {"number": number, "status": "on its way", "carrier": "Root & Sons"}


@dataclass
class Pace:
    """How slow the model and the tools are."""

    seconds: float = 0.05


PACE = Pace()


async def script(body: JsonObject) -> Scripted:
    """What the model says."""
    messages: Any = body["messages"]
    asked = str(next(m["content"] for m in reversed(messages) if m["role"] == "user"))
    await asyncio.sleep(PACE.seconds)
    if HOSTILE in asked:
        return HOSTILE
    if QUESTION in asked and messages[-1]["role"] == "user":
        calls = tuple(
            ScriptedCall(name="find_order", arguments={"number": number})
            for number in ("A-17", "B-99")
        )
        return Reply(reasoning="Two orders; look both up.", tool_calls=calls)
    return ANSWER


AGENTS = (
    AgentConfig(
        name="order-desk",
        description="Answers customers of a small shop.",
        instructions="You answer customers of a small shop. Look orders up.",
        tools=("find_order",),
    ),
    AgentConfig(name="storyteller", description="Tells long stories."),
)


def stage_settings(url: str = "http://127.0.0.1:9/v1", **http: object) -> Settings:
    agents = (*AGENTS, AgentConfig(name=NOBODY, description="Moves money."))
    by_name = {agent.name: agent.model_dump(exclude={"name"}) for agent in agents}
    return load_settings(
        llm={
            "base_url": url,
            "model": "celeriac-small",
            "limits": {"in_flight": 8, "requests_per_minute": 600},
            "prices": {"*": {"input": 2, "output": 8}},
        },
        agents=by_name,
        http=http,
    )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What tests do to it, and where it is."""

    url: str
    orchestrator: AsyncOrchestrator
    store: TaskStore
    server: uvicorn.Server


@asynccontextmanager
async def open_stage(**http: object) -> AsyncIterator[Stage]:
    """Serve the page on a free port, with a worker in this process."""
    async with Double(script) as double:
        settings = stage_settings(double.url, **http)
        llm = ChatCompletionsProvider(double.url, model="celeriac-small")
        manager = LocalAgentManager(llm, ToolRegistry([find_order]))
        for agent in AGENTS:
            manager.register_agent(agent)
        async with open_orchestrator(settings, manager=manager) as orchestrator:
            parts = orchestrator._parts
            with socket.socket(proto=socket.IPPROTO_TCP) as listening:
                listening.bind(("127.0.0.1", 0))
                port = listening.getsockname()[1]
                app = create_app(settings, parts=parts)
                async with _served(app, settings, listening) as server:
                    yield Stage(
                        url=f"http://127.0.0.1:{port}",
                        orchestrator=orchestrator,
                        store=parts.store,
                        server=server,
                    )
        await llm.aclose()


@asynccontextmanager
async def _served(
    app: Any, settings: Settings, listening: socket.socket
) -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        app,
        http=protocol_of(settings.http),
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
        assert not serving.done(), "the server has ended"
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


async def claimed(store: TaskStore, task: Task, worker: str, seconds: float) -> Lease:
    await store.create([task])
    return await claimed_again(store, task, worker, seconds)


async def claimed_again(
    store: TaskStore, task: Task, worker: str, seconds: float
) -> Lease:
    claim = await store.claim(
        task.tenant, task.id, worker=worker, serves=[NOBODY], lease_seconds=seconds
    )
    assert not isinstance(claim, str), claim
    return claim.lease


def completion(number: int, *, asks: str = "", says: str = "") -> Step:
    calls = [{"id": "c1", "name": asks, "arguments": {"order": "A-18"}}] if asks else []
    return Step(
        key=f"completion:{number}",
        kind=StepKind.COMPLETION,
        name="celeriac-small",
        outcome={"message": {"content": says, "tool_calls": calls}},
        usage=Usage(input_tokens=812 * number, output_tokens=57),
        seconds=PACE.seconds,
        cost_micros=2080,
        waited_seconds=0.4,
    )


async def resumed_task(store: TaskStore) -> Task:
    """A task whose worker vanished after a step, and that another one ended."""
    task = Task(agent_name=NOBODY, input={"prompt": "Charge the card for order A-18"})
    lease = await claimed(store, task, "worker-1@north", 2 * PACE.seconds + 0.3)
    await asyncio.sleep(PACE.seconds)
    await store.record_step(lease, completion(1, asks="charge_card"))
    while (await store.get(task.tenant, task.id)).status is TaskStatus.RUNNING:
        await store.sweep()
        await asyncio.sleep(0.02)
    lease = await claimed_again(store, task, "worker-2@south", HOUR)
    done = Step(
        key="tool:1:c1",
        kind=StepKind.TOOL_CALL,
        name="charge_card",
        outcome={"call_id": "c1", "content": '{"receipt": "R-2031"}'},
        seconds=PACE.seconds / 2,
    )
    await asyncio.sleep(PACE.seconds / 2)
    await store.record_step(lease, done)
    await asyncio.sleep(PACE.seconds)
    await store.record_step(lease, completion(2, says="Charged. Receipt R-2031."))
    stats = TaskStats(usage=Usage(input_tokens=2436, output_tokens=114), completions=2)
    result = TaskResult(
        task_id=task.id, content="Charged. Receipt R-2031.", stats=stats
    )
    ending = Ending(status=TaskStatus.COMPLETED, result=result)
    await store.finish(lease, ending, running_seconds=1)
    return task


async def undecided_task(store: TaskStore) -> Task:
    """A task that waits for a person."""
    task = Task(agent_name=NOBODY, input={"prompt": PAYMENT}, tags=("refund",))
    lease = await claimed(store, task, "worker-1@north", HOUR)
    await asyncio.sleep(PACE.seconds)
    await store.record_step(lease, completion(1, asks="refund"))
    start = StepStart(key="tool:1:c1", kind=StepKind.TOOL_CALL)
    await store.start_step(lease, start)
    call = AwaitedCall(
        call_id="1:c1",
        tool="refund",
        arguments={"order": "A-18", "amount": "49.00"},
        begun_at=datetime.now(UTC) - timedelta(seconds=30),
    )
    await store.park(lease, [call], running_seconds=1)
    return task


async def failed_task(store: TaskStore) -> Task:
    task = Task(agent_name=NOBODY, input={"prompt": "Charge the card for order A-19"})
    lease = await claimed(store, task, "worker-1@north", HOUR)
    await asyncio.sleep(PACE.seconds)
    await store.record_step(lease, completion(1, asks="charge_card"))
    message = "the endpoint refused the key; set OPENAI_API_KEY to one that it knows"
    failure = TaskFailure(code="quota_exhausted", message=message, attempt=1)
    ending = Ending(status=TaskStatus.FAILED, failure=failure)
    await store.finish(lease, ending, running_seconds=1)
    return task


async def flooded_task(store: TaskStore) -> Task:
    """A task whose tool and model said far too much, without a space."""
    task = Task(agent_name=NOBODY, input={"prompt": "W" * 100_000})
    lease = await claimed(store, task, "worker-1@north", HOUR)
    await store.record_step(lease, completion(1, asks="charge_card"))
    outcome = {"call_id": "c1", "content": "<marquee>" * 100_000}
    flood = Step(
        key="tool:1:c1", kind=StepKind.TOOL_CALL, name="charge_card", outcome=outcome
    )
    await store.record_step(lease, flood)
    await end(store, lease, "<marquee>" * 100_000)
    return task


async def speaking_task(stage: Stage) -> tuple[Task, Lease]:
    """A task whose model has begun to speak."""
    task = Task(agent_name=NOBODY, input={"prompt": "What does the celeriac do?"})
    lease = await claimed(stage.store, task, "worker-1@north", HOUR)
    place = {"item_id": "msg-1", "output_index": 0}
    began = NewEvent(type=EventType.PART_ADDED, data=place)
    await stage.store.append_events(lease, [began])
    await say(stage.store, lease, "It", " waits")
    return task, lease


async def say(store: TaskStore, lease: Lease, *pieces: str) -> None:
    place = {"item_id": "msg-1", "output_index": 0}
    for piece in pieces:
        delta = NewEvent(type=EventType.TEXT_DELTA, data={**place, "delta": piece})
        await store.append_events(lease, [delta])


async def hang_up(stage: Stage) -> None:
    """Cut every connection to the service."""
    for connection in list(stage.server.server_state.connections):
        connection.transport.abort()


async def end(store: TaskStore, lease: Lease, content: str) -> None:
    result = TaskResult(task_id=lease.task_id, content=content)
    ending = Ending(status=TaskStatus.COMPLETED, result=result)
    await store.finish(lease, ending, running_seconds=1)


async def perform(stage: Stage) -> Sequence[str]:
    """Run and arrange all of it; the ids: talk, hostile, resumed, undecided, failed."""
    talk = await stage.orchestrator.submit(
        "order-desk", {"prompt": QUESTION}, conversation_id="customer-17"
    )
    hostile = await stage.orchestrator.submit("order-desk", {"prompt": HOSTILE})
    for handle in (talk, hostile):
        await handle.result(timeout=60)
    resumed = await resumed_task(stage.store)
    undecided = await undecided_task(stage.store)
    failed = await failed_task(stage.store)
    return talk.id, hostile.id, resumed.id, undecided.id, failed.id


async def _main() -> None:
    PACE.seconds = 1.0
    async with open_stage(flower_url="http://127.0.0.1:5555") as stage:
        ids = await perform(stage)
        print(stage.url, *ids, sep="\n", flush=True)  # noqa: T201
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_main())
