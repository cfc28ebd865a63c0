"""What a tool is: a typed function that a model may call, and what a call gives.

Knows neither agents nor runs. Every way in which a call can go wrong is a `ToolError`,
whose text is written for the model.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args, overload

from pydantic import BaseModel, ConfigDict, JsonValue

from conversations.json_value import (
    Json,
    JsonObject,
    NotStorable,
    Text,
    check_identifier,
)
from conversations.message import Message, Role
from conversations.trusted import trusted
from orchestrator.task import Task
from workers.errors import (
    GateClosed,
    InvalidAgent,
    InvalidToolArguments,
    ToolError,
    ToolFailed,
    ToolTimeout,
    text_of,
)
from workers.llm.provider import LLMProvider, ToolSpec
from workers.own_code import place_of
from workers.time_limit import TimeLimit
from workers.tools.results import json_of
from workers.tools.signature import read_signature
from workers.tools.threads import DaemonThreads

logger = logging.getLogger(__name__)

Effect = Literal["pure", "idempotent", "once"]
"""What a second run would do: nothing, nothing with the same key, or harm."""

Tag = Literal["reads_private", "reads_untrusted", "sends_out"]
"""What makes a tool dangerous in company: it shows the model what not everybody may
know, or what a stranger may have written, or it carries something away."""

DEFAULT_APPROVAL_SECONDS = 86_400.0
"""A day: somebody looks once a day at least, and what was asked then still holds."""

DEFAULT_TIMEOUT_SECONDS = 60.0
"""Long for a look-up, short enough that a hung tool leaves its run time to answer."""

MAX_SECONDS = 10 * 365 * 86_400.0
"""Ten years: more is meant to be for ever, and would be no date that can be written."""

MAX_THREADS = 16
"""Calls of one plain function that run at once; further ones wait their turn."""

MAX_ERROR_CHARACTERS = 1000
"""Of an exception's text, so that a dump in it does not fill the model's context."""


class ToolResult(BaseModel):
    """What a tool call gave, as the model will read it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    call_id: Text
    """The call it answers."""
    content: Text
    """Text for the model: the result, or what went wrong."""
    output: Json = None
    """The result as data, for agents that are programs; None where it is text."""
    error: Text | None = None
    """The tool error's stable code; None when it succeeded."""

    def as_message(self) -> Message:
        """Return the tool message that answers the call."""
        return trusted(
            Message, role=Role.TOOL, content=self.content, tool_call_id=self.call_id
        )


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool may know of the call; hidden from the model."""

    task: Task
    """The task whose run calls it."""
    agent_name: str
    """The agent that calls it."""
    idempotency_key: str
    """The same whenever this call is repeated, of no other call."""
    llm: LLMProvider | None = None
    """A model, for tools that need one."""

    @property
    def tenant(self) -> str:
        """Whose task it is."""
        return self.task.tenant

    @property
    def context(self) -> JsonObject:
        """The submitter's facts about the caller, such as who is asking."""
        return self.task.context


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a `verify` function found out about a call that a crash cut short."""

    done: bool | None
    """Whether the call had its effect; None when that cannot be told."""
    output: JsonValue = None
    """What the call gave, when it is done."""


Verify = Callable[["ToolContext", JsonObject], "Outcome | Awaitable[Outcome]"]
"""Looks up whether a call with these arguments had its effect."""


class Tool:
    """A function that a model may call.

    An `async` function runs on the event loop and must not block it. A plain function
    runs in a thread; one that outlives its timeout goes on unseen until it returns.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        effect: Effect = "once",
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        verify: Verify | None = None,
        tags: Collection[Tag] = (),
        requires_approval: bool = False,
        approval_timeout_seconds: float | None = DEFAULT_APPROVAL_SECONDS,
    ) -> None:
        """Make a tool of `function`.

        Args:
            function: Typed parameters; a first one annotated `ToolContext` is given
                the context and hidden from the model.
            name: What the model calls it; the function's name by default.
            effect: What a second run would do, for calls whose outcome a crash has
                hidden.
            timeout_seconds: After so long the call is given up; None waits for ever.
            verify: Of a `once` tool: looks up whether a call that a crash cut short
                had its effect; without it a person is asked.
            tags: What makes it dangerous beside others: `reads_private`,
                `reads_untrusted`, `sends_out`.
            requires_approval: Each call waits for a person before it begins.
            approval_timeout_seconds: After so long without a decision the call is
                refused, and an approval that was not used is asked for again; None
                waits for ever.

        Raises:
            InvalidAgent: the name, effect or a parameter cannot be used.
        """
        if not callable(function):
            raise InvalidAgent(
                "a tool must be a function with typed parameters"
                f" (got {type(function).__name__})"
            )
        self.function = function
        self.name = _checked_name(name or str(getattr(function, "__name__", "")))
        if effect not in ("pure", "idempotent", "once"):
            raise InvalidAgent(
                f"tool {self.name!r}: effect must be 'pure', 'idempotent' or 'once'"
            )
        limits = {
            "timeout_seconds": timeout_seconds,
            "approval_timeout_seconds": approval_timeout_seconds,
        }
        for field, seconds in limits.items():
            if seconds is not None and not 0 < seconds <= MAX_SECONDS:
                raise InvalidAgent(
                    f"tool {self.name!r}: {field} must be above 0 and at most"
                    f" {MAX_SECONDS:.0f} (got {seconds}); None waits for ever"
                )
        if verify is not None and effect != "once":
            raise InvalidAgent(
                f"tool {self.name!r}: verify is for effect 'once' (got {effect!r});"
                " a call of another effect is simply made again; leave verify out"
            )
        self.effect = effect
        self.tags = _checked_tags(self.name, tags)
        self.requires_approval = requires_approval
        self.approval_timeout_seconds = approval_timeout_seconds
        self._verify = verify
        self._is_async = inspect.iscoroutinefunction(function)
        self.timeout_seconds = timeout_seconds
        self._signature = read_signature(function, name=self.name, context=ToolContext)
        self._threads = DaemonThreads(MAX_THREADS, name=f"tool-{self.name}")
        self.spec = ToolSpec(
            name=self.name,
            description=self._signature.description,
            parameters=self._signature.schema,
        )

    @property
    def reads_untrusted(self) -> bool:
        """Whether what it gives may hold a stranger's words."""
        return "reads_untrusted" in self.tags

    @property
    def sends_out(self) -> bool:
        """Whether it carries something away."""
        return "sends_out" in self.tags

    def accepts(self, arguments: JsonObject) -> bool:
        """Whether a call with these arguments would be made."""
        try:
            self._signature.validate(arguments)
        except InvalidToolArguments:
            return False
        return True

    async def call(self, arguments: JsonObject, ctx: ToolContext) -> JsonValue:
        """Check the arguments, run the function, check what it gives.

        Raises:
            InvalidToolArguments: they do not fit; the function has not run.
            ToolTimeout: it has not ended in time.
            ToolFailed: it raised, or gave something that no JSON can say.
        """
        keywords = self._signature.validate(arguments)
        bound = partial(self._given(ctx), **keywords)
        try:
            with self._time_limit():
                return await self._run(bound, ctx)
        except TimeoutError as exc:
            raise ToolTimeout(
                f"{self.name} did not end within {self.timeout_seconds} s;"
                " ask for less, or go on without it"
            ) from exc

    def _given(self, ctx: ToolContext) -> Callable[..., Any]:
        """Return the function with the context, where it takes one."""
        parameter = self._signature.context
        if parameter is None:
            return self.function
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            return partial(self.function, **{parameter.name: ctx})
        return partial(self.function, ctx)

    def _time_limit(self) -> TimeLimit:
        seconds = self.timeout_seconds
        now = asyncio.get_running_loop().time
        return TimeLimit(None if seconds is None else now() + seconds)

    async def verify(self, arguments: JsonObject, ctx: ToolContext) -> Outcome:
        """Find out whether an earlier call had its effect; never raises for it."""
        if self._verify is None:
            return Outcome(done=None)
        bound = partial(self._verify, ctx, arguments)
        try:
            with self._time_limit():
                found = await self._in_its_place(self._verify, bound)
            return self._checked_outcome(found)
        except Exception:
            logger.exception("verify failed", extra={"tool": self.name})
            return Outcome(done=None)

    def _checked_outcome(self, found: object) -> Outcome:
        if not isinstance(found, Outcome):
            raise TypeError(f"verify must return an Outcome, not {type(found)}")
        if not found.done:
            return found
        return Outcome(done=True, output=json_of(found.output, tool=self.name))

    async def _run(self, bound: Callable[[], Any], ctx: ToolContext) -> JsonValue:
        try:
            result = await self._in_its_place(self.function, bound)
            return json_of(result, tool=self.name)
        except (ToolError, GateClosed):
            raise
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ToolFailed(
                f"{self.name} failed: something it awaited was cancelled"
            ) from exc
        except (KeyboardInterrupt, GeneratorExit):
            # Of an async function: Ctrl-C of the program, a loop that is closed.
            raise
        except BaseException as exc:
            # The model reads what it says, who wrote the tool where it came up.
            logger.info(
                "tool raised",
                extra={
                    "tool": self.name,
                    "task_id": ctx.task.id,
                    "type": type(exc).__name__,
                    "at": place_of(exc),
                },
            )
            text = f"{type(exc).__name__}: {text_of(exc)}"[:MAX_ERROR_CHARACTERS]
            raise ToolFailed(f"{self.name} failed: {text}") from exc

    async def _in_its_place(
        self, function: Callable[..., Any], bound: Callable[[], Any]
    ) -> object:
        """Run an async function here, a plain one in a thread."""
        if function is self.function and self._is_async:
            return await bound()
        if inspect.iscoroutinefunction(function):
            return await bound()
        result = await asyncio.wrap_future(
            self._threads.submit(partial(_in_thread, bound))
        )
        return await result if inspect.isawaitable(result) else result


def _in_thread(bound: Callable[[], Any]) -> object:
    try:
        return bound()
    except (StopIteration, KeyboardInterrupt, GeneratorExit) as exc:
        # A future cannot carry the first; the others are not meant for the loop.
        raise RuntimeError(f"{type(exc).__name__}: {exc}") from exc


def _checked_name(name: str) -> str:
    try:
        return check_identifier(name)
    except NotStorable as exc:
        raise InvalidAgent(f"tool name {name[:64]!r} {exc}; give name=") from exc


def _checked_tags(name: str, tags: Collection[Tag]) -> frozenset[Tag]:
    known = get_args(Tag)
    if isinstance(tags, str) or not set(tags) <= set(known):
        raise InvalidAgent(
            f"tool {name!r}: tags must be a list of some of {', '.join(known)}"
        )
    return frozenset(tags)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
    verify: Verify | None = None,
    tags: Collection[Tag] = (),
    requires_approval: bool = False,
    approval_timeout_seconds: float | None = DEFAULT_APPROVAL_SECONDS,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(  # noqa: PLR0913 - settings, each with a default
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
    verify: Verify | None = None,
    tags: Collection[Tag] = (),
    requires_approval: bool = False,
    approval_timeout_seconds: float | None = DEFAULT_APPROVAL_SECONDS,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a `Tool` of a typed function, bare or with settings.

    The docstring tells the model what it does; its `Args:` describe the arguments.
    """
    make = partial(
        Tool,
        name=name,
        effect=effect,
        timeout_seconds=timeout_seconds,
        verify=verify,
        tags=tags,
        requires_approval=requires_approval,
        approval_timeout_seconds=approval_timeout_seconds,
    )
    return make if function is None else make(function)
