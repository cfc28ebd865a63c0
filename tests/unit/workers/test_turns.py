"""Turns of a conversation as an agent's run makes them, on the in-memory store."""

from __future__ import annotations

from collections.abc import Sequence

from conversations.conversation import ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from conversations.message import Message, Role, ToolCall
from conversations.service import StoredConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation, Doorbell
from orchestrator.task import RetryPolicy, Task
from workers.agent_manager import LocalAgentManager
from workers.errors import LLMUnavailable
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.provider import Completion
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tool, tool

CALL = Completion(
    message=Message(
        role=Role.ASSISTANT,
        content="Let me look.",
        tool_calls=(ToolCall(id="1", name="lookup"),),
    )
)


class SilentQueue:
    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...


class Talk:
    """One conversation, one agent with the tool loop, a scripted model."""

    def __init__(
        self, replies: Script, *, tools: Sequence[Tool] = (), **config: object
    ) -> None:
        self.conversations = InMemoryConversationStore()
        self.store = InMemoryTaskStore(conversations=self.conversations)
        self.llm = ScriptedLLMProvider(replies=replies)
        registry = ToolRegistry(tools)
        manager = LocalAgentManager(self.llm, registry)
        manager.register_agent(
            AgentConfig(name="agent", tools=registry.names, **config)
        )
        parts = ExecutorParts(
            store=self.store,
            queue=SilentQueue(),
            manager=manager,
            conversations=StoredConversationService(self.conversations),
            conversation_config=ConversationConfig(),
        )
        self.executor = Executor(parts, worker="w", limits=ExecutorLimits())

    async def submit(self, prompt: str, **fields: object) -> Creation:
        task = Task(
            agent_name="agent",
            conversation_id="c",
            input={"prompt": prompt},
            **fields,
        )
        (creation,) = await self.store.create([task])
        assert isinstance(creation, Creation)
        return creation

    async def run(self, prompt: str, **fields: object) -> str:
        creation = await self.submit(prompt, **fields)
        return await self.executor.run("default", creation.task.id)

    async def history(self) -> list[tuple[str, str]]:
        stored = await self.conversations.read("default", "c")
        return [(each.message.role.value, each.message.content) for each in stored]

    def prompt(self, number: int) -> list[str]:
        return [message.content for message in self.llm.requests[number].messages]


async def test_a_steering_message_reaches_the_next_completion_and_later_attempts() -> (
    None
):
    async def lookup() -> str:
        """Look it up."""
        joined = await talk.submit("In red", when_busy="steer")
        assert not joined.created
        return "found"

    talk = Talk(
        [CALL, LLMUnavailable("away"), "Done in red."],
        tools=[tool(lookup)],
        retry=RetryPolicy(backoff_seconds=0),
    )
    creation = await talk.submit("Paint")
    for word in ("released", "completed"):
        assert await talk.executor.run("default", creation.task.id) == word
    asked = ["Paint", "Let me look.", "found", "In red"]
    assert [talk.prompt(1), talk.prompt(2)] == [asked, asked]
    assert await talk.history() == [
        ("user", "Paint"),
        ("assistant", "Let me look."),
        ("tool", "found"),
        ("user", "In red"),
        ("assistant", "Done in red."),
    ]


async def test_a_failed_run_keeps_what_it_said_without_its_tool_calls() -> None:
    async def lookup() -> str:
        """Look it up."""
        return "found"

    talk = Talk(
        [CALL, LLMUnavailable("away"), "Here."],
        tools=[tool(lookup)],
        retry=RetryPolicy(max_attempts=1),
    )
    assert await talk.run("Paint") == "failed"
    assert await talk.history() == [
        ("user", "Paint"),
        ("assistant", "Let me look.\n\n[This turn failed before it ended.]"),
    ]
    assert await talk.run("Again") == "completed"
    assert talk.prompt(2)[0] == "Paint"
