"""An agent with tools of your own, run in this process: no Redis and no Celery.

Run it from the repository; the model is the one of the settings:

    python examples/order_desk.py "Where is order A-17?"
"""

from __future__ import annotations

import asyncio
import sys

from orchestrator.agent_config import AgentConfig
from orchestrator.settings import load_settings
from orchestrator.task import Task, TaskResult
from workers.agent_manager import LocalAgentManager
from workers.errors import LLMError
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.provider import LLMProvider
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolContext, tool

ORDERS = {"A-17": "on its way", "A-18": "delivered"}


@tool(effect="pure")
def find_order(number: str) -> dict[str, str]:
    """Look an order up.

    Args:
        number: The order's number, such as A-17.
    """
    if number not in ORDERS:
        raise KeyError(f"no order has the number {number}")
    return {"number": number, "status": ORDERS[number]}


@tool(effect="idempotent", timeout_seconds=10)
async def ask_for_call(ctx: ToolContext, number: str) -> str:
    """Ask the shop to call the customer about an order.

    Args:
        ctx: Who is asking.
        number: The order's number.
    """
    customer = ctx.context.get("customer", "unknown")
    return f"noted for {customer}: call about {number} ({ctx.idempotency_key})"


DESK = AgentConfig(
    name="order-desk",
    instructions="You answer customers of a small shop. Look orders up.",
    tools=("find_order", "ask_for_call"),
    max_turns=6,
)


async def answer(question: str, llm: LLMProvider) -> TaskResult:
    """Return the desk's answer."""
    manager = LocalAgentManager(llm, ToolRegistry([find_order, ask_for_call]))
    manager.register_agent(DESK)
    task = Task(
        agent_name=DESK.name, input={"prompt": question}, context={"customer": "Ann"}
    )
    return await manager.execute_task(task)


async def main(question: str) -> None:
    """Ask the configured endpoint and show what it took."""
    settings = load_settings().llm
    llm = ChatCompletionsProvider(
        settings.base_url, model=settings.model, api_key=settings.api_key
    )
    try:
        result = await answer(question, llm)
    except LLMError as exc:
        sys.exit(str(exc))
    finally:
        await llm.aclose()
    print(result.content)  # noqa: T201
    print(f"[{result.stats.tool_calls} tool calls]")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Where is order A-17?"))
