"""The agents of a process: registers, finds and executes them, and knows their health.

Knows nothing of leases, queues or stores; the executor gives it a run and a log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Collection, Iterable
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any, NamedTuple, Protocol

from conversations.json_value import JsonObject, check_text, checked_copy, copied
from conversations.message import Message, Role
from conversations.trusted import changed, trusted
from conversations.view import NO_CONVERSATION, ConversationView
from orchestrator.agent_config import AgentConfig, AgentInfo, output_problem
from orchestrator.agent_kinds import OUR_KINDS
from orchestrator.duration import format_seconds
from orchestrator.errors import AgentNotFound
from orchestrator.journal import EMPTY_JOURNAL, Journal
from orchestrator.names import nearest_names
from orchestrator.task import StopReason, Task, TaskResult, TaskStats
from workers.agents.agent import Agent, AgentInput, AgentResult
from workers.agents.kinds import build_agent, can_run, kind_of
from workers.agents.llm_agent import LLMAgent
from workers.compaction import with_summary
from workers.errors import AgentFailed, GateClosed, InvalidAgent
from workers.llm.governor import Governor
from workers.llm.provider import LLMProvider
from workers.llm.run_provider import RunProvider, UngovernedProvider
from workers.name_check import check_names, check_values
from workers.prompt_tokens import counted
from workers.registered_agent import RegisteredAgent
from workers.retry import describe
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import DetachedRunLog, RunLog
from workers.tools.registry import ToolRegistry
from workers.trifecta import check_tags

logger = logging.getLogger(__name__)


class RunStart(NamedTuple):
    """What a stored run brings to its execution."""

    run: Run
    log: RunLog
    journal: Journal = EMPTY_JOURNAL
    view: ConversationView | None = None
    results: tuple[JsonObject, ...] = ()
    """How the tasks ended that this one waited for."""


class Execution(NamedTuple):
    """What an execution gave: the answer and the turn it adds to a conversation."""

    result: TaskResult
    turn: tuple[Message, ...]
    """Of a task without a conversation none."""


class AgentManager(Protocol):
    """Registers, discovers, health-checks and executes agents."""

    def register_agent(self, config: AgentConfig, agent: Agent | None = None) -> None:
        """Make an agent known; None builds it from the configuration's kind.

        Of an object of your own the class is told as the kind. A second registration
        under the name replaces the first for runs that begin later.

        Raises:
            InvalidAgent: the kind or a tool is not known, the output schema is none,
                an argument is of another type, the limits contradict each other, or
                tools may not come together.
        """
        ...

    def get_agent(self, name: str) -> Agent:
        """Return an agent.

        Raises:
            AgentNotFound: none has the name; carries the nearest names.
        """
        ...

    def get_config(self, name: str) -> AgentConfig:
        """Return an agent's configuration.

        Raises:
            AgentNotFound: none has the name; carries the nearest names.
        """
        ...

    def list_agents(self) -> tuple[AgentInfo, ...]:
        """Return all agents by name, with their health in this process."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The agents' names, for each claim."""
        ...

    @property
    def asking_at_once(self) -> Collection[str]:
        """Those of them whose runs ask a model first, with nothing before it.

        That is a hint which saves a round trip: a completion that was marked and does
        not follow loses its mark. A manager of your own does as well without it.
        """
        return ()

    async def execute_task(self, task: Task) -> TaskResult:
        """Run a task's agent to its answer, here and now, storing nothing.

        Raises:
            AgentNotFound: none has the name.
            WorkerError: what the agent raised.
        """
        ...

    async def execute_run(self, start: RunStart) -> Execution:
        """Run a claimed task's agent, continuing after the steps that are done.

        Raises:
            AgentNotFound: none has the name.
            WorkerError: what the agent raised.
        """
        ...


class LocalAgentManager:
    """The agents of this process."""

    def __init__(
        self,
        llm: LLMProvider,
        tools: ToolRegistry,
        *,
        governor: Governor | None = None,
        strict_tools: bool = False,
    ) -> None:
        """Make a manager without agents.

        Args:
            llm: Answers every completion, unless there is a governor.
            tools: What the agents may be allowed to call.
            governor: Gives each run a provider of its own.
            strict_tools: Refuse agents that could be made to give data away, where
                otherwise a warning is logged.
        """
        self._llm = llm
        self._governor = governor
        self._tools = tools
        self._strict_tools = strict_tools
        self._agents: dict[str, RegisteredAgent] = {}
        self._asking_at_once: frozenset[str] = frozenset()

    def register_agent(self, config: AgentConfig, agent: Agent | None = None) -> None:
        _check_arguments(config, agent)
        unknown = [name for name in config.tools if self._tools.find_tool(name) is None]
        if unknown:
            known = ", ".join(self._tools.names) or "none"
            raise InvalidAgent(
                f"agent {config.name!r}: tools {unknown} are not registered;"
                f" registered are: {known}"
            )
        if self._governor is not None:
            for name in (config.endpoint, *(each.endpoint for each in config.fallback)):
                self._governor.endpoints.get(name)
        is_ours = agent is None and config.kind in OUR_KINDS
        if agent is None:
            agent = build_agent(config)
        check_names(config, agent)
        check_values(config, agent)
        check_tags(config, agent, self._tools, strict=self._strict_tools)
        kind = kind_of(agent, said=config.kind)
        config = config.model_copy(update={"kind": kind})
        self._warn_of_a_twin(config, is_ours=is_ours)
        self._agents[config.name] = RegisteredAgent(config, agent, is_ours)
        asks = type(agent) is LLMAgent and self._may_ask_at_once(config)
        others = self._asking_at_once - {config.name}
        self._asking_at_once = others | ({config.name} if asks else set())

    def _warn_of_a_twin(self, config: AgentConfig, *, is_ours: bool) -> None:
        """Two of one name and version are a slip, as a rule; the last one counts."""
        known = self._agents.get(config.name)
        if known is None or known.config.version != config.version:
            return
        if (known.config, known.is_ours) != (config, is_ours) or not is_ours:
            logger.warning(
                "agent registered twice; the last one counts, unless they have names or"
                " versions of their own",
                extra={"agent": config.name, "version": config.version},
            )

    def _may_ask_at_once(self, config: AgentConfig) -> bool:
        return self._governor is None or self._governor.lets_ask_at_once(config)

    def get_agent(self, name: str) -> Agent:
        return self._find(name).agent

    def get_config(self, name: str) -> AgentConfig:
        return self._find(name).config

    def list_agents(self) -> tuple[AgentInfo, ...]:
        return tuple(
            AgentInfo(config=entry.config, health=entry.health)
            for _, entry in sorted(self._agents.items())
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._agents)

    @property
    def asking_at_once(self) -> Collection[str]:
        return self._asking_at_once

    async def execute_task(self, task: Task) -> TaskResult:
        start = RunStart(run=Run(task), log=DetachedRunLog())
        return (await self.execute_run(start)).result

    async def execute_run(self, start: RunStart) -> Execution:
        entry = self._find(start.run.task.agent_name)
        context = JournaledRunContext(
            start.run,
            config=entry.config if entry.is_ours else _own(entry.config),
            log=start.log,
            llm=self._provider_of(start, entry.config),
            tools=self._tools,
            journal=start.journal,
        )
        view = start.view or NO_CONVERSATION
        try:
            summary = await context.summarise(view)
            agent_input = _input_of(start, entry.config, view, summary)
            context.ends_with_answer = _ends_with_answer(entry, agent_input)
            answer = _checked(await _running(entry.agent.run(context, agent_input)))
            await context.conclude(answer.content)
        except GateClosed:
            raise
        except Exception as exc:
            entry.note_failure(describe(exc, attempt=0).code)
            raise
        entry.note_success()
        result = _result_of(start.run.task, answer, context.stats())
        if start.run.task.conversation_id is None:
            return Execution(result=result, turn=())
        said = _turn_of(agent_input, answer, taken=context.taken)
        turn = counted(said, context.exchanges)
        return Execution(result=result, turn=with_summary(turn, summary))

    def _provider_of(self, start: RunStart, config: AgentConfig) -> RunProvider:
        if self._governor is None:
            return UngovernedProvider(self._llm)
        is_stored = start.run.lease is not None
        return self._governor.for_run(
            start.run.task, config, may_park=is_stored, may_owe=is_stored
        )

    def _find(self, name: str) -> RegisteredAgent:
        entry = self._agents.get(name)
        if entry is None:
            raise AgentNotFound(name, nearest=nearest_names(name, self._agents))
        return entry


def _check_arguments(config: object, agent: object) -> None:
    """Refuse what is no configuration or no agent, or asks for what cannot be."""
    if not isinstance(config, AgentConfig):
        raise InvalidAgent(
            f"register_agent takes an AgentConfig (got {_named(config)}); give it"
            " AgentConfig(name=…), which says how the agent works"
        )
    if agent is not None and not can_run(agent):
        raise InvalidAgent(
            f"agent {config.name!r}: {_named(agent)} is no agent; give an object with"
            " a method `async def run(self, ctx, agent_input)`, or none to build one"
        )
    soft, hard = config.soft_time_limit_seconds, config.time_limit_seconds
    if soft is not None and hard is not None and soft > hard:
        raise InvalidAgent(
            f"agent {config.name!r}: its soft limit ({format_seconds(soft)}) must not"
            f" exceed its hard limit ({format_seconds(hard)}); set"
            " soft_time_limit_seconds at most at time_limit_seconds"
        )
    problem = output_problem(config)
    if problem is not None:
        raise InvalidAgent(f"agent {config.name!r}: {problem}")
    if config.output_schema is not None:
        # Three MiB that a worker whose answers are all plain text does without.
        from orchestrator.output_schema import schema_problem  # noqa: PLC0415

        problem = schema_problem(config.output_schema)
        if problem:
            raise InvalidAgent(f"agent {config.name!r}: {problem}")


def _named(given: object) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return type(given).__name__


def _own(config: AgentConfig) -> AgentConfig:
    """Return what an agent of a user's may change in place: no later run sees it."""
    return changed(
        config,
        parameters=copied(config.parameters),
        options=copied(config.options),
        output_schema=copied(config.output_schema),
    )


def _running(run: Awaitable[AgentResult]) -> Awaitable[AgentResult]:
    if not isawaitable(run):
        raise AgentFailed(
            f"the agent's `run` gave {type(run).__name__} at once; write it as"
            " `async def run(self, ctx, agent_input)`",
            code="invalid_result",
        )
    return run


def _checked(answer: object) -> AgentResult:
    if not isinstance(answer, AgentResult):
        raise AgentFailed(
            f"the agent returned {type(answer).__name__};"
            " return an AgentResult, such as AgentResult(content=…)",
            code="invalid_result",
        )
    return answer


def _result_of(task: Task, answer: AgentResult, stats: TaskStats) -> TaskResult:
    """Return an answer as it is stored; a copy that an agent made is not checked yet.

    Raises:
        ValueError: it holds what no result may.
    """
    fields: dict[str, Any] = {
        "task_id": task.id,
        "content": answer.content,
        "output": answer.output,
        "stats": stats,
        "stop_reason": answer.stop_reason,
        "partial": answer.partial,
        "executed_at": datetime.now(UTC),
    }
    kinds = (type(answer.content), type(answer.stop_reason), type(answer.partial))
    if kinds != (str, StopReason, bool):
        return TaskResult(**fields)
    check_text(answer.content, path="content")
    fields["output"] = checked_copy(answer.output, path="output")
    return trusted(TaskResult, **fields)


def _input_of(
    start: RunStart,
    config: AgentConfig,
    view: ConversationView,
    summary: Message | None,
) -> AgentInput:
    """Return what an agent may change: nobody else has it, no later run sees it."""
    task = start.run.task
    results: JsonObject = {"results": [*start.results]} if start.results else {}
    return trusted(
        AgentInput,
        data=copied(task.input | results),
        context=copied(task.context),
        parameters=copied(config.parameters | task.parameters),
        messages=view.messages(summary),
        context_tokens=view.config.context_tokens,
    )


def _ends_with_answer(entry: RegisteredAgent, agent_input: AgentInput) -> bool:
    """Whether nobody's code but ours comes after an answer without calls.

    Such an answer's record may go with the run's end. A schema is somebody's code too:
    its patterns are run over the answer.
    """
    schemas = entry.config.output_schema, agent_input.parameters.get("output_schema")
    return type(entry.agent) is LLMAgent and schemas == (None, None)


def _turn_of(
    agent_input: AgentInput, answer: AgentResult, *, taken: Iterable[Message]
) -> tuple[Message, ...]:
    if answer.messages:
        return answer.messages
    asked = (*agent_input.opening(), *taken)
    if not answer.content.strip():
        return asked
    return (*asked, Message(role=Role.ASSISTANT, content=answer.content))
