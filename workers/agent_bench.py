"""Runs agents in tests: real HTTP to a scripted endpoint, everything else in memory.

The pytest plugin's fixtures are made of this; it knows no pytest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from conversations.json_value import JsonObject
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import TaskFailed
from orchestrator.llm_settings import LLMSettings
from orchestrator.loop_thread import LoopThread
from orchestrator.settings import Settings
from orchestrator.task import TaskResult
from workers.agent_manager import Execution, LocalAgentManager, RunStart
from workers.agents.agent import Agent
from workers.in_process import open_orchestrator
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double, SeenRequest
from workers.llm.double_script import Answer, read_reply, read_script
from workers.llm.reply import Scripted
from workers.tools.registry import ToolRegistry

RUN_SECONDS = 30.0


class TellingManager(LocalAgentManager):
    """Keeps what an agent has raised, so that a test can show its line."""

    raised: Exception | None = None

    async def execute_run(self, start: RunStart) -> Execution:
        try:
            return await super().execute_run(start)
        except Exception as exc:
            self.raised = exc
            raise


class DoubleBench:
    """A scripted endpoint on a loop of its own, for tests of either colour."""

    def __init__(self) -> None:
        self._loop = LoopThread("celeriac-double")
        self._replies: list[Scripted] = []
        self._beyond = 0
        self._function: Answer | None = None
        self._double = Double(self._next)
        self._loop.await_(self._double.__aenter__())

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return self._double.url

    @property
    def requests(self) -> list[SeenRequest]:
        """What was asked, in order."""
        return self._double.requests

    def reply(self, *replies: Scripted) -> None:
        """Add replies; they are given in order.

        Raises:
            InvalidScript: one cannot be used; says what of it.
        """
        self._replies += map(read_reply, replies)

    def load(self, path: Path | str) -> None:
        """Add the replies of a file; a function in a Python file answers every call.

        Raises:
            InvalidScript: it cannot be read; says what.
        """
        script = read_script(Path(path))
        if callable(script):
            self._function = script
        else:
            self.reply(*script)

    def problems(self) -> list[str]:
        """Return what the script and the calls have not in common."""
        found = []
        if self._replies:
            found.append(f"{len(self._replies)} scripted replies were not used")
        if self._beyond:
            found.append(f"{self._beyond} calls came after the last scripted reply")
        return found

    def close(self) -> None:
        """Stop serving."""
        self._loop.await_(self._double.__aexit__(None, None, None))
        self._loop.close()

    def run_agent(
        self,
        agent: Agent | AgentConfig | str,
        data: JsonObject | str,
        *,
        tools: Iterable[Callable[..., Any]] = (),
        timeout_seconds: float = RUN_SECONDS,
        **config: Any,
    ) -> TaskResult:
        """Run an agent on an input to its end.

        Args:
            agent: An agent of yours, a configuration, or a kind such as `llm`.
            data: The task's input; a text stands for `{"prompt": text}`.
            tools: Functions that it may call.
            timeout_seconds: For the whole run.
            **config: Fields of the configuration, such as `instructions`.

        Raises:
            TaskEndedWithoutResult: the run failed; says why.
        """
        registry = ToolRegistry(tools)
        fields = {"name": "tested", "tools": registry.names, **config}
        if isinstance(agent, AgentConfig):
            settled, own = agent, None
        elif isinstance(agent, str):
            settled, own = AgentConfig(kind=agent, **fields), None
        else:
            settled, own = AgentConfig(**fields), agent
        given = {"prompt": data} if isinstance(data, str) else data

        async def run() -> TaskResult:
            llm = ChatCompletionsProvider(
                self.url, model="scripted", api_key=SecretStr("unused")
            )
            manager = TellingManager(llm, registry)
            manager.register_agent(settled, own)
            settings = Settings(
                llm=LLMSettings(base_url=self.url), agents={settled.name: settled}
            )
            try:
                async with open_orchestrator(settings, manager=manager) as celeriac:
                    task = await celeriac.submit(settled.name, given)
                    return await task.result(timeout=timeout_seconds)
            except TaskFailed as failed:
                failure = failed.task.failure
                if failure is not None and failure.code == "agent_error":
                    raise failed from manager.raised
                raise
            finally:
                await llm.aclose()

        return self._loop.await_(run())

    def _next(self, body: JsonObject) -> Scripted | Awaitable[Scripted]:
        if self._replies:
            return self._replies.pop(0)
        if self._function is not None:
            return self._function(body)
        self._beyond += 1
        return {"status": 400, "text": "the test's script has no more replies"}
