"""Tool calls that a person must allow before they begin, and why they must be.

An approval is bound to one call: the id under which it is asked for holds a hash of the
tool and its arguments. It is used once, and only for so long as the tool says.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from conversations.client_calls import client_calls_of
from conversations.json_value import JsonObject
from conversations.message import Message, ToolCall
from orchestrator.journal import (
    APPROVAL_PREFIX,
    Action,
    Decision,
    Journal,
    Step,
    call_key,
)
from orchestrator.task import AwaitedCall
from workers.agents.agent import ToolResult
from workers.agents.turn_messages import refusal
from workers.errors import AgentFailed
from workers.none_yet import NONE
from workers.run import Run
from workers.run_steps import custom_step
from workers.tools.registry import ToolRegistry, result_of
from workers.tools.tool import Tool

CODE: Final = "approval_refused"
_HASH_CHARACTERS: Final = 32

Record = Callable[[Step], Awaitable[None]]


class AskedCall(NamedTuple):
    """A call that has not ended."""

    call: ToolCall
    tool: Tool | None
    """None when there is none that may be called."""
    place: str
    """Names it within the task."""

    @property
    def is_once(self) -> bool:
        return self.tool is not None and self.tool.effect == "once"

    @property
    def approval_id(self) -> str:
        """Names this call with these arguments, and no other."""
        facts: JsonObject = {"tool": self.call.name, "arguments": self.call.arguments}
        digest = sha256(_canonical(facts)).hexdigest()[:_HASH_CHARACTERS]
        return f"{APPROVAL_PREFIX}{self.place}:{digest}"


def _canonical(facts: JsonObject) -> bytes:
    """One text for equal values, in whatever order their names stand."""
    return json.dumps(facts, sort_keys=True).encode()


class ShownText:
    """Whether a run's model has been shown what strangers may have written.

    A call of a tool that is not known here counts, and the client's own do not.
    """

    def __init__(self, tools: ToolRegistry) -> None:
        self._tools = tools
        self._checked: tuple[str, ...] = ()
        self._prompt: Sequence[Message] = ()
        self._is_untrusted = False

    @property
    def is_untrusted(self) -> bool:
        self._read()
        return self._is_untrusted

    def note_prompt(self, messages: Sequence[Message]) -> None:
        """Note what the model is shown; most runs never ask for it to be read."""
        seen = len(self._prompt)
        if seen and (
            len(messages) < seen or messages[seen - 1] is not self._prompt[-1]
        ):
            self._read()
        self._prompt = messages

    def note_result(self, tool: Tool | None) -> None:
        """Note that a tool's result reaches the run."""
        if tool is not None:
            if tool.name not in self._checked:
                self._checked = (*self._checked, tool.name)
            self._is_untrusted |= tool.reads_untrusted

    def _read(self) -> None:
        for message in self._prompt:
            if self._is_untrusted:
                return
            self._is_untrusted = message.covers is not None
            given = client_calls_of(message) if message.tool_calls else ()
            for call in message.tool_calls:
                tool = self._tools.find_tool(call.name)
                if call.id not in given and call.name not in self._checked:
                    self._is_untrusted |= tool is None or tool.reads_untrusted


class Approvals:
    """What people have decided about one run's calls, and what they are asked."""

    def __init__(self, run: Run, journal: Journal, *, tools: ToolRegistry) -> None:
        self._run = run
        self._read_at = journal.read_at
        self._decisions = {each.key: each for each in journal.decisions}
        self._given = NONE.union([step.key for step in journal.steps]) or NONE
        marked = [each.key for each in journal.starts]
        self._begun = NONE.union(marked, self._decisions) or NONE
        self.shown = ShownText(tools)

    def needs_one(self, asked: AskedCall) -> bool:
        """Whether a call waits for a person.

        Not one that an earlier attempt has begun, nor one that cannot be made.
        """
        tool = asked.tool
        if tool is None or call_key(asked.place) in self._begun:
            return False
        is_tainted = tool.sends_out and self.shown.is_untrusted
        asks = tool.requires_approval or is_tainted
        return asks and tool.accepts(asked.call.arguments)

    async def settled(self, asked: AskedCall) -> ToolResult | None:
        """Return what a call gives that is not made; None when it may be made.

        Raises:
            AgentFailed: a person decided to end the task.
        """
        key = call_key(asked.approval_id)
        if key in self._given:
            return None
        if self._run.lease is None:
            why = "it needs approval, and a run that is not stored cannot wait for one"
            return _refused(asked, why)
        decision = self._decisions.get(key)
        seconds = asked.tool.approval_timeout_seconds if asked.tool else None
        if decision is None or self._is_stale(decision, seconds):
            await self._run.park(
                AwaitedCall(
                    call_id=asked.approval_id,
                    reason="approval",
                    tool=asked.call.name,
                    arguments=asked.call.arguments,
                    timeout_seconds=seconds,
                )
            )
        return None if decision.action is Action.RUN else _without(asked, decision)

    async def use(self, asked: AskedCall, *, record: Record) -> None:
        """Give `record` the approval of a call, within the step that makes it.

        From then on its age is not looked at: no drain may come before the call.
        """
        key = call_key(asked.approval_id)
        if key not in self._given:
            decision = self._decisions[key]
            await record(_step(decision, attempt=self._run.task.attempt))
            self._given |= {key}

    def _is_stale(self, decision: Decision, seconds: float | None) -> bool:
        """Whether it was allowed so long ago that it must be asked for again."""
        if decision.action is not Action.RUN or seconds is None:
            return False
        age = _age(decision, self._read_at)
        return age + timedelta(seconds=self._run.running_seconds()) > timedelta(
            seconds=seconds
        )


def _age(decision: Decision, read_at: datetime | None) -> timedelta:
    """How old it was when the run began; the store's clock tells both."""
    if read_at is None or decision.decided_at is None:
        return timedelta(0)
    return read_at - decision.decided_at


def _without(asked: AskedCall, decision: Decision) -> ToolResult:
    note = f" ({decision.note})" if decision.note else ""
    if decision.action is Action.FAIL:
        raise AgentFailed(
            f"{asked.call.name} ({asked.approval_id}) was not approved and the decision"
            f" was to end the task{note}",
            code=CODE,
        )
    if decision.action is Action.DONE:
        return result_of(asked.call.id, decision.output)
    return _refused(asked, f"it was not approved{note}")


def _refused(asked: AskedCall, why: str) -> ToolResult:
    return refusal(asked.call.id, CODE, f"{asked.call.name} was not called, {why}")


def _step(decision: Decision, *, attempt: int) -> Step:
    return custom_step(decision.key, "approval", decision.action.value, attempt=attempt)
