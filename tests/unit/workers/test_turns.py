"""Turns of a conversation as an agent's run makes them, on the in-memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from conversations.conversation import Conversation, ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from conversations.message import Message, Role, ToolCall
from conversations.store import WindowRead
from conversations.stored_service import StoredConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation, Doorbell, TaskFilter
from orchestrator.task import RetryPolicy, StopReason, Task, TaskStatus
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import Agent, AgentInput, AgentResult, RunContext
from workers.errors import ContextOverflow, LLMUnavailable
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tool, tool

FAILED = TaskFilter(status=TaskStatus.FAILED)
CALL = Completion(
    message=Message(
        role=Role.ASSISTANT,
        content="Let me look.",
        tool_calls=(ToolCall(id="1", name="lookup"),),
    )
)
CALLS_ALONE = Completion(message=CALL.message.model_copy(update={"content": ""}))


class SilentQueue:
    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...


class Talk:
    """One conversation, one agent with the tool loop, a scripted model."""

    provider: type[ScriptedLLMProvider] = ScriptedLLMProvider

    def __init__(
        self,
        replies: Script,
        *,
        tools: Sequence[Tool] = (),
        conversations: InMemoryConversationStore | None = None,
        apart: bool = False,
        agent: Agent | None = None,
        **config: object,
    ) -> None:
        self.conversations = conversations or InMemoryConversationStore()
        known = None if apart else self.conversations
        self.store = InMemoryTaskStore(conversations=known)
        self.llm = self.provider(replies=replies)
        registry = ToolRegistry(tools)
        manager = LocalAgentManager(self.llm, registry)
        manager.register_agent(
            AgentConfig(name="agent", tools=registry.names, **config), agent
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
        fields = {"input": {"prompt": prompt}, **fields}
        task = Task(agent_name="agent", conversation_id="c", **fields)
        (creation,) = await self.store.create([task])
        assert isinstance(creation, Creation)
        return creation

    async def run(self, prompt: str, **fields: object) -> str:
        creation = await self.submit(prompt, **fields)
        return (await self.executor.run("default", creation.task.id)).word

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
        assert (await talk.executor.run("default", creation.task.id)).word == word
    asked = ["Paint", "Let me look.", "found", "In red"]
    assert [talk.prompt(1), talk.prompt(2)] == [asked, asked]
    assert await talk.history() == [
        ("user", "Paint"),
        ("assistant", "Let me look."),
        ("tool", "found"),
        ("user", "In red"),
        ("assistant", "Done in red."),
    ]


async def test_a_turn_that_an_agent_does_not_tell_has_what_steered_it() -> None:
    class Listener:
        async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
            request = CompletionRequest(messages=agent_input.opening())
            if ctx.task.attempt == 1:
                await talk.submit("In red", when_busy="steer")
            await ctx.complete(request)
            (taken,) = await ctx.take_messages()
            await ctx.complete(request)
            return AgentResult(content=f"Done {taken.content.lower()}.")

    talk = Talk(
        ["So", LLMUnavailable("away"), "be it."],
        agent=Listener(),
        retry=RetryPolicy(backoff_seconds=0),
    )
    creation = await talk.submit("Paint")
    for word in ("released", "completed"):
        assert (await talk.executor.run("default", creation.task.id)).word == word
    assert await talk.history() == [
        ("user", "Paint"),
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


def summarising(**limits: object) -> ConversationConfig:
    return ConversationConfig(context_window=4, compaction="summarise", **limits)


async def test_what_the_window_leaves_out_is_summarised_once_and_stays_readable() -> (
    None
):
    def reply(request: CompletionRequest) -> str:
        summarises = request.messages[0].content.startswith("You shorten")
        return "They counted." if summarises else "ok"

    talk = Talk(reply)
    await talk.conversations.create(Conversation(id="c", config=summarising()))
    for number in range(6):
        assert await talk.run(str(number)) == "completed"
    shortened = [
        request
        for request in talk.llm.requests
        if request.messages[0].content.startswith("You shorten")
    ]
    assert 2 <= len(shortened) <= 4
    assert "user: 0" in shortened[0].messages[1].content
    assert "earlier summary: They counted." in shortened[1].messages[1].content
    shown = talk.llm.requests[-1].messages
    assert shown[0].content == "Summary of the conversation so far:\nThey counted."
    assert len(shown) <= 6
    history = await talk.conversations.read("default", "c")
    said = [each.message.content for each in history if each.message.covers is None]
    assert said == [text for number in range(6) for text in (str(number), "ok")]
    covers = [each.message.covers for each in history if each.message.covers]
    assert covers == sorted(covers)


async def test_a_model_that_calls_tools_in_place_of_a_summary_takes_no_history() -> (
    None
):
    def reply(request: CompletionRequest) -> str | Completion:
        if not request.messages[0].content.startswith("You shorten"):
            return "ok"
        said = request.messages[1].content
        return "They counted." if "earlier summary" not in said else CALLS_ALONE

    talk = Talk(reply, retry=RetryPolicy(backoff_seconds=0))
    await talk.conversations.create(Conversation(id="c", config=summarising()))
    for number in range(8):
        assert await talk.run(str(number)) == "completed"
    earlier = [
        "earlier summary: They counted." in request.messages[1].content
        for request in talk.llm.requests
        if request.messages[0].content.startswith("You shorten")
    ]
    assert len(earlier) > 2
    assert earlier == [False, *[True] * (len(earlier) - 1)]
    kept = [text for _, text in await talk.history() if text.startswith("Summary of")]
    assert kept == ["Summary of the conversation so far:\nThey counted."]


async def test_calls_in_place_of_a_summary_leave_nothing_in_a_failed_turn() -> None:
    talk = Talk(
        [*["ok"] * 3, CALLS_ALONE, LLMUnavailable("away"), LLMUnavailable("away")],
        retry=RetryPolicy(max_attempts=2, backoff_seconds=0),
    )
    await talk.conversations.create(Conversation(id="c", config=summarising()))
    for number in range(3):
        await talk.run(str(number))
    creation = await talk.submit("3")
    for word in ("released", "failed"):
        assert (await talk.executor.run("default", creation.task.id)).word == word
    roles = [role for role, _ in await talk.history()]
    assert roles == ["user", "assistant"] * 4


async def test_a_summary_does_not_part_a_clients_calls_from_their_outputs() -> None:
    calls = Completion(
        message=Message(
            role=Role.ASSISTANT,
            tool_calls=tuple(ToolCall(id=name, name="theirs") for name in "ab"),
        )
    )

    def reply(request: CompletionRequest) -> str | Completion:
        if request.messages[0].content.startswith("You shorten"):
            return "They counted."
        return calls if request.messages[-1].content == "4" else "ok"

    talk = Talk(reply)
    config = ConversationConfig(context_window=8, compaction="summarise")
    await talk.conversations.create(Conversation(id="c", config=config))
    tools = [{"name": "theirs"}]
    for number in range(5):
        word = await talk.run(str(number), parameters={"tools": tools})
        assert word == "completed"
    output = Message(role=Role.TOOL, tool_call_id="a", content="found")
    given = {"messages": [output.model_dump(mode="json")]}
    assert await talk.run("", input=given) == "completed"
    assert [role for role, _ in await talk.history()][-5:] == [
        *("assistant", "tool", "tool"),
        *("system", "assistant"),
    ]
    assert await talk.run("And?") == "completed"
    assert "found" in talk.prompt(-1)
    service = StoredConversationService(talk.conversations)
    await service.import_(await service.export("c"), conversation_id="copy")


async def test_a_summary_is_not_paid_for_twice() -> None:
    replies = ["ok"] * 3 + ["In short.", LLMUnavailable("away"), "ok"]
    talk = Talk(replies, retry=RetryPolicy(backoff_seconds=0))
    await talk.conversations.create(Conversation(id="c", config=summarising()))
    for number in range(3):
        await talk.run(str(number))
    creation = await talk.submit("3")
    for word in ("released", "completed"):
        assert (await talk.executor.run("default", creation.task.id)).word == word
    assert talk.llm.unused == []


async def test_a_soft_limit_within_the_summary_still_gives_an_answer() -> None:
    class SlowToShorten(ScriptedLLMProvider):
        async def complete(self, request: CompletionRequest) -> Completion:
            if request.messages[0].content.startswith("You shorten"):
                await asyncio.Event().wait()
            return await super().complete(request)

    class SlowTalk(Talk):
        provider = SlowToShorten

    talk = SlowTalk(["ok"] * 3 + ["So far."])
    await talk.conversations.create(Conversation(id="c", config=summarising()))
    for number in range(3):
        await talk.run(str(number))
    creation = await talk.submit(
        "3", soft_time_limit_seconds=0.05, time_limit_seconds=30
    )
    await talk.executor.run("default", creation.task.id)
    result = (await talk.store.get("default", creation.task.id)).result
    assert result is not None
    assert (result.content, result.partial) == ("So far.", True)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT


async def test_a_history_beyond_the_bounds_is_refused_without_compaction() -> None:
    talk = Talk(["ok"] * 3)
    config = ConversationConfig(context_window=4, compaction="none")
    await talk.conversations.create(Conversation(id="c", config=config))
    for word in ("completed", "completed", "completed", "failed"):
        assert await talk.run("Hello") == word
    (task,) = (await talk.store.list("default", FAILED)).tasks
    assert task.failure is not None
    assert task.failure.code == "context_too_long"
    assert "raise context_window" in task.failure.message


async def test_a_prompt_too_long_for_the_endpoint_is_cut_once_and_sent_again() -> None:
    def reply(request: CompletionRequest) -> object:
        length = sum(len(message.content) for message in request.messages)
        fault = ContextOverflow("9000 tokens exceed 2250", context_tokens=2250)
        return fault if length > 9000 else "ok"

    async def lookup() -> str:
        """Look it up."""
        return "x" * 16_000

    answers = iter([CALL])
    talk = Talk(
        lambda request: next(answers, None) or reply(request), tools=[tool(lookup)]
    )
    assert await talk.run("Paint") == "completed"
    assert "characters left out to fit the context]" in talk.prompt(-1)[-1]
    stored = await talk.conversations.read("default", "c")
    assert stored[2].message.content == "x" * 16_000
    assert await talk.run("y" * 20_000) == "failed"
    (task,) = (await talk.store.list("default", FAILED)).tasks
    assert task.failure is not None
    assert task.failure.code == "context_overflow"
    assert task.failure.message == "9000 tokens exceed 2250"


async def test_stored_messages_know_what_the_endpoint_counted() -> None:
    talk = Talk(["A fair answer."])
    await talk.run("A question")
    stored = await talk.conversations.read("default", "c")
    assert all(each.message.tokens for each in stored)


async def test_each_completion_tells_which_stored_messages_it_was_shown() -> None:
    talk = Talk(lambda request: "Yes.")
    head = Conversation(id="c", config=ConversationConfig(context_window=4))
    await talk.conversations.create(head)
    rules = Message(role=Role.SYSTEM, content="Be brief.")
    await talk.conversations.append("default", "c", [rules])
    for number in range(5):
        await talk.run(f"Question {number}")
    page = await talk.store.list("default", TaskFilter(), limit=10)
    shown = []
    for task in reversed(page.tasks):
        events = await talk.store.events("default", task.id)
        shown += [e.data.get("history") for e in events if "finish_reason" in e.data]
    prompts = [[m.content for m in request.messages] for request in talk.llm.requests]
    stored = await talk.conversations.read("default", "c")
    said = {each.seq: each.message.content for each in stored}
    assert shown[-1] == [[1, 1], [7, 9]]
    for ranges, prompt in zip(shown, prompts, strict=True):
        seqs = [n for first, last in ranges for n in range(first, last + 1)]
        assert [said[seq] for seq in seqs] == prompt[:-1]


class CountedConversations(InMemoryConversationStore):
    """Counts the windows that were read apart from a claim."""

    windows = 0

    async def read_window(self, tenant: str, conversation_id: str) -> WindowRead:
        self.windows += 1
        return await super().read_window(tenant, conversation_id)


async def test_a_run_reads_its_window_with_its_claim() -> None:
    talk = Talk(["hello", "again"], conversations=CountedConversations())
    assert [await talk.run("one"), await talk.run("two")] == ["completed"] * 2
    shown = [message.content for message in talk.llm.requests[1].messages]
    assert shown == ["one", "hello", "two"]
    assert talk.conversations.windows == 0


async def test_a_store_that_keeps_no_conversations_leaves_the_window_to_the_run() -> (
    None
):
    talk = Talk(["hello"], conversations=CountedConversations(), apart=True)
    said = Message(role=Role.USER, content="before")
    await talk.conversations.append(
        "default", "c", [said], create_with=ConversationConfig()
    )
    assert await talk.run("one") == "completed"
    shown = [message.content for message in talk.llm.requests[0].messages]
    assert shown == ["before", "one"]
    assert talk.conversations.windows == 1
