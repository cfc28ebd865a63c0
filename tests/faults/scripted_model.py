"""A model that counts: each label gets so many tool calls, then its answer.

Every request is logged with its instant, the label of its task and the number of the
completion, so that paying twice for a finished step can be seen.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from conversations.json_value import JsonObject
from workers.llm.double_script import HttpReply
from workers.llm.reply import ScriptedCall

_PROMPT = re.compile(r"label=(\S+) turns=(\d+)")


def prompt(label: str, *, turns: int = 2) -> str:
    """What a task says to have `turns` tool calls and then its answer."""
    return f"label={label} turns={turns}"


@dataclass(frozen=True)
class Request:
    """One request that reached the endpoint."""

    label: str
    completion: int
    at: float


@dataclass
class CountingModel:
    """The script of a double; `delay` gives each completion's seconds."""

    seed: int = 0
    delay: Callable[[str, int], float] = lambda _label, _completion: 0.0
    hang: Callable[[str, int], bool] = lambda _label, _completion: False
    tool: str = "note"
    """The tool that it calls."""
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311

    def __call__(self, body: JsonObject) -> HttpReply:
        messages = body["messages"]
        assert isinstance(messages, list)
        asked = max(i for i, m in enumerate(messages) if m["role"] == "user")
        found = _PROMPT.search(messages[asked]["content"])
        assert found is not None, messages[asked]
        label, turns = found[1], int(found[2])
        done = sum(message["role"] == "tool" for message in messages[asked:])
        self.requests.append(Request(label, done + 1, time.time()))
        seconds = self.delay(label, done + 1)
        if self.hang(label, done + 1):
            return HttpReply(hang=True)
        if done >= turns:
            return HttpReply(text=f"done {label}", delay_seconds=seconds)
        arguments: JsonObject = {"label": label, "step": done + 1}
        call = ScriptedCall(name=self.tool, arguments=arguments, id=f"call-{done + 1}")
        return HttpReply(tool_calls=(call,), delay_seconds=seconds)

    def counts(self) -> Counter[tuple[str, int]]:
        """How often each completion of each label was requested."""
        return Counter((made.label, made.completion) for made in self.requests)
