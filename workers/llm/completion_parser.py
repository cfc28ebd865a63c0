"""From an endpoint's answer to one `Completion`, whatever the server.

A whole answer and the chunks of a stream go through the same accumulator; nothing here
knows where the JSON came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from conversations.mending import mended
from conversations.message import Message, Role, ToolCall
from conversations.trusted import trusted
from orchestrator.task import Usage
from workers.errors import (
    CompletionRefused,
    EmptyCompletion,
    LLMError,
    MalformedCompletion,
    StreamTruncated,
)
from workers.llm.provider import Completion, FinishReason, TextDelta
from workers.llm.stop_sequences import StopSequences
from workers.llm.tool_calls import ToolCallAccumulator

_THOUGHTS = ("thinking", "reasoning")
"""Types of the parts of a content list that are reasoning."""
_REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
_LENGTH = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_FILTERED = (
    "content_filter",
    "safety",
    "recitation",
    "prohibited_content",
    "blocklist",
    "spii",
    "refusal",
    "guardrail",
    "sensitive",
)
"""How the reasons of an answer that a filter touched begin."""
_BROKEN_OFF = frozenset(
    {
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "network_error",
        "insufficient_system_resource",
    }
)
"""The server gave up. Other reasons end in `stop`; tool calls decide by presence."""
_GROQ = "x_groq"
"""Where Groq counts the tokens of a stream, whether it was asked for them or not."""
_MOST_TOKENS = 10**9
"""A count beyond it is none."""


class CompletionAccumulator:
    """Builds one completion of the chunks of a stream, or of one whole answer."""

    def __init__(self, *, stop: Sequence[str] = ()) -> None:
        """Begin one; its text ends before the first of `stop`."""
        self._stop = StopSequences(stop)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._told_text = self._told_reasoning = 0
        self._refusal: list[str] = []
        self._reasoning_field: str | None = None
        self._calls = ToolCallAccumulator()
        self._finish = ""
        self._usage: Usage | None = None
        self._model = ""
        self._answered = False

    def feed(self, payload: Mapping[str, object]) -> None:
        """Take one chunk."""
        model, usage = payload.get("model"), payload.get("usage")
        if isinstance(model, str) and model:
            self._model = model
        if isinstance(usage, dict):
            self._usage = _usage(usage) or self._usage
        if _GROQ in payload:
            self._usage = self._usage or _usage_of_groq(payload[_GROQ])
        choices = payload.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and _is_first(choice.get("index")):
                self._feed_choice(choice)
                return

    @property
    def has_finish(self) -> bool:
        """Whether the model has said why it ended."""
        return bool(self._finish)

    def added(self) -> TextDelta | None:
        """Return the text that came since this was last asked, if any came."""
        text = self._stop.take(mended("".join(self._text[self._told_text :])))
        reasoning = mended("".join(self._reasoning[self._told_reasoning :]))
        self._told_text, self._told_reasoning = len(self._text), len(self._reasoning)
        return TextDelta(text, reasoning) if text or reasoning else None

    def rest(self) -> TextDelta | None:
        """Return what `added` has held back of an answer that is whole now."""
        text = self._stop.rest()
        return TextDelta(text) if text else None

    def _feed_choice(self, choice: Mapping[str, object]) -> None:
        finish, usage = choice.get("finish_reason"), choice.get("usage")
        if finish and isinstance(finish, str) and finish.strip():
            self._finish = finish.strip().lower()
        if usage and isinstance(usage, dict):  # Moonshot's place
            self._usage = _usage(usage) or self._usage
        message = choice.get("message")
        if isinstance(message, dict):
            if isinstance(message.get("tool_calls"), list):
                message = message | {"tool_calls": _numbered(message)}
            self._feed_message(message)
        elif isinstance(delta := choice.get("delta"), dict):
            self._feed_message(delta)
        elif self._finish and self._finish.startswith(_FILTERED):
            self._answered = True  # with nothing: a filter takes the message away

    def _feed_message(self, message: Mapping[str, object]) -> None:
        self._answered = True
        content = message.get("content")
        if len(message) == 1 and isinstance(content, str):  # as most chunks are
            self._text.append(content)
            return
        if text := _content(content):
            self._text.append(text)
        if reasoning := self._reasoning_in(message):
            self._reasoning.append(reasoning)
        if refusal := message.get("refusal"):
            self._refusal.append(_content(refusal))
        calls, old = message.get("tool_calls"), message.get("function_call")
        if calls and isinstance(calls, list | dict):
            self._calls.feed(calls if isinstance(calls, list) else [calls])
        elif isinstance(old, dict):
            self._calls.feed([{"index": "function_call", "function": old}])

    def _reasoning_in(self, message: Mapping[str, object]) -> str:
        for name in _REASONING_FIELDS:
            if name in message and (reasoning := _content(message[name])):
                self._reasoning_field = self._reasoning_field or name
                return reasoning
        content = message.get("content")
        return _thought(content) if isinstance(content, list) else ""

    def completion(
        self, *, ended: bool, clean: Callable[[str], str] = str
    ) -> Completion:
        """Return the completion.

        Args:
            ended: Whether the endpoint said that it was all.
            clean: Takes secrets from the endpoint's own words: its model's name and
                its refusal. The answer is the model's, and stays as it is.

        Raises:
            StreamTruncated, MalformedCompletion, CompletionRefused, EmptyCompletion
        """
        try:
            self._require_its_end(ended=ended)
            return self._completion(clean)
        except StreamTruncated:  # what was counted may be its beginning alone
            raise
        except LLMError as exc:
            exc.usage = self._usage
            raise

    def _completion(self, clean: Callable[[str], str]) -> Completion:
        if not self._answered:
            raise MalformedCompletion(
                "the endpoint's answer has no choices; set OPENAI_BASE_URL to an"
                " endpoint that speaks Chat Completions"
            )
        calls, invalid = self._calls.finish()
        said = mended("".join(self._text))
        text = self._stop.cut(said)
        if len(text) < len(said) and self._finish in _LENGTH:
            self._finish = "stop"  # which came before
        if not (calls or text.strip()):
            raise self._without_answer(clean)
        return trusted(
            Completion,
            message=self._message(text, calls),
            finish_reason=self._finish_reason(has_calls=bool(calls)),
            usage=self._usage,
            model=clean(mended(self._model)),
            invalid_arguments=invalid,
        )

    def _message(self, text: str, calls: tuple[ToolCall, ...]) -> Message:
        if not self._reasoning:
            return trusted(Message, role=Role.ASSISTANT, content=text, tool_calls=calls)
        return trusted(
            Message,
            role=Role.ASSISTANT,
            content=text,
            tool_calls=calls,
            reasoning=mended("".join(self._reasoning)),
            reasoning_field=self._reasoning_field,
        )

    def _require_its_end(self, *, ended: bool) -> None:
        """Refuse what the endpoint has not ended.

        Raises:
            StreamTruncated, MalformedCompletion
        """
        if not (ended or self._finish):
            raise StreamTruncated(
                "the endpoint's stream ended before its finish; ask again"
            )
        if self._finish in _BROKEN_OFF:
            raise StreamTruncated(
                f"the endpoint gave its answer up (finish reason {self._finish!r});"
                " ask again"
            )
        if self._finish == "malformed_function_call":
            raise MalformedCompletion(
                "the model wrote a tool call that the endpoint could not parse;"
                " ask again"
            )

    @property
    def _is_filtered(self) -> bool:
        return self._finish.startswith(_FILTERED)

    def _finish_reason(self, *, has_calls: bool) -> FinishReason:
        if self._finish in _LENGTH:
            return FinishReason.LENGTH
        if self._is_filtered:
            return FinishReason.CONTENT_FILTER
        return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP

    def _without_answer(
        self, clean: Callable[[str], str]
    ) -> CompletionRefused | EmptyCompletion:
        refusal = clean(mended("".join(self._refusal))).strip()
        if refusal or self._is_filtered:
            words = f": {refusal[:300]}" if refusal else ""
            return CompletionRefused(
                f"the model or a filter refused to answer{words}; change the prompt"
            )
        if self._finish in _LENGTH:
            return EmptyCompletion(
                "the model used up its output limit before its answer;"
                " raise max_output_tokens"
            )
        return EmptyCompletion("the model gave neither text nor a tool call; ask again")


def _numbered(message: Mapping[str, object]) -> list[object]:
    """Number the calls of a whole answer, where each entry is a call of its own."""
    calls = message.get("tool_calls")
    return [
        call | {"index": position}
        for position, call in enumerate(calls if isinstance(calls, list) else ())
        if isinstance(call, dict)
    ]


def _content(value: object) -> str:
    """Text, or the text parts of a content list; no list in a list."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if _is_part(part))
    return _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_part(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") not in _THOUGHTS


def _thought(content: list[object]) -> str:
    """Reasoning among the parts of a content list, as Mistral sends it."""
    return "".join(
        _content(part.get("thinking")) or _text(part.get("text"))
        for part in content
        if isinstance(part, dict) and part.get("type") in _THOUGHTS
    )


def _is_first(index: object) -> bool:
    return index is None or index == 0 or _int(index) == 0


def _usage_of_groq(facts: object) -> Usage | None:
    usage = facts.get("usage") if isinstance(facts, dict) else None
    return _usage(usage) if isinstance(usage, dict) else None


def _usage(usage: Mapping[str, object]) -> Usage | None:
    """Return what was counted; None where neither side was."""
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    total = _count(usage, "total_tokens")
    if not (prompt or output or total):
        return None
    prompt = prompt or max(0, total - output)
    # xAI and Gemini count reasoning in the total alone, and it is paid for as output.
    output = max(output, total - prompt)
    asked, said = map(usage.get, ("prompt_tokens_details", "completion_tokens_details"))
    cached = _count(asked, "cached_tokens") if asked else 0
    thought = _count(said, "reasoning_tokens") if said else 0
    return trusted(
        Usage,
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=min(cached, prompt),  # they are parts of the others
        reasoning_tokens=min(thought, output),
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    count = value if type(value) is int else None
    if count is None and not isinstance(value, bool):
        count = _int(value)
    return count if count is not None and 0 < count <= _MOST_TOKENS else 0


def _int(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
