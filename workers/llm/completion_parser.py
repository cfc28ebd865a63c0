"""From an endpoint's answer to one `Completion`, whatever the server.

A whole answer and the chunks of a stream go through the same accumulator; nothing here
knows where the JSON came from.
"""

from __future__ import annotations

from collections.abc import Mapping

from conversations.message import Message, Role
from orchestrator.task import Usage
from workers.errors import (
    CompletionRefused,
    EmptyCompletion,
    MalformedCompletion,
    StreamTruncated,
)
from workers.llm.provider import Completion, FinishReason, TextDelta
from workers.llm.tool_calls import ToolCallAccumulator, mend

_REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""Others end in `stop`; tool calls decide by their presence."""


class CompletionAccumulator:
    """Builds one completion of the chunks of a stream, or of one whole answer."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._reasoning_field: str | None = None
        self._calls = ToolCallAccumulator()
        self._finish = ""
        self._usage: Usage | None = None
        self._model = ""
        self._answered = False

    def feed(self, payload: Mapping[str, object]) -> TextDelta | None:
        """Take one chunk; return the text that it adds, if it does."""
        model, usage = payload.get("model"), payload.get("usage")
        if isinstance(model, str) and model:
            self._model = mend(model)
        if isinstance(usage, dict):
            self._usage = _usage(usage)
        choices = payload.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index") in {0, None}:
                return self._feed_choice(choice)
        return None

    def _feed_choice(self, choice: Mapping[str, object]) -> TextDelta | None:
        finish = choice.get("finish_reason")
        self._finish = finish if isinstance(finish, str) and finish else self._finish
        message, delta = choice.get("message"), choice.get("delta")
        if isinstance(message, dict):
            return self._feed_message(message | {"tool_calls": _numbered(message)})
        return self._feed_message(delta) if isinstance(delta, dict) else None

    def _feed_message(self, message: Mapping[str, object]) -> TextDelta | None:
        self._answered = True
        text, reasoning = _content(message.get("content")), ""
        for name in _REASONING_FIELDS:
            reasoning = _content(message.get(name))
            if reasoning:
                self._reasoning_field = self._reasoning_field or name
                break
        self._text.append(text)
        self._reasoning.append(reasoning)
        self._refusal.append(_content(message.get("refusal")))
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            self._calls.feed(calls)
        if not (text or reasoning):
            return None
        return TextDelta(text=mend(text), reasoning=mend(reasoning))

    def completion(self, *, ended: bool) -> Completion:
        """Return the completion; `ended` says that the endpoint said it was all.

        Raises:
            StreamTruncated, MalformedCompletion, CompletionRefused, EmptyCompletion
        """
        if not (ended or self._finish):
            raise StreamTruncated(
                "the endpoint's stream ended before its finish; ask again"
            )
        if not self._answered:
            raise MalformedCompletion(
                "the endpoint's answer has no choices; set OPENAI_BASE_URL to an"
                " endpoint that speaks Chat Completions"
            )
        calls, invalid = self._calls.finish()
        text = mend("".join(self._text))
        if not (calls or text.strip()):
            raise self._without_answer()
        reasoning = mend("".join(self._reasoning))
        return Completion(
            message=Message(
                role=Role.ASSISTANT,
                content=text,
                tool_calls=calls,
                reasoning=reasoning or None,
                reasoning_field=self._reasoning_field if reasoning else None,
            ),
            finish_reason=self._finish_reason(has_calls=bool(calls)),
            usage=self._usage,
            model=self._model,
            invalid_arguments=invalid,
        )

    def _finish_reason(self, *, has_calls: bool) -> FinishReason:
        usual = FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
        return _FINISH_REASONS.get(self._finish, usual)

    def _without_answer(self) -> CompletionRefused | EmptyCompletion:
        refusal = mend("".join(self._refusal)).strip()
        if refusal or self._finish == "content_filter":
            words = f": {refusal[:300]}" if refusal else ""
            return CompletionRefused(
                f"the model or a filter refused to answer{words}; change the prompt"
            )
        if self._finish == "length":
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
    """Text, or the text parts of a content list."""
    if isinstance(value, list):
        return "".join(_content(part.get("text")) for part in value if _is_part(part))
    return value if isinstance(value, str) else ""


def _is_part(part: object) -> bool:
    return isinstance(part, dict)


def _usage(usage: Mapping[str, object]) -> Usage:
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(
            usage.get("completion_tokens_details"), "reasoning_tokens"
        ),
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    try:
        return max(0, int(value)) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0
