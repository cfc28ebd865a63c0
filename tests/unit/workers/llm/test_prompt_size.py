"""What the prompts of one run have in common is measured once."""

from __future__ import annotations

from conversations.message import Message
from workers.llm.prompt_size import PromptSizes, prompt_tokens
from workers.llm.provider import CompletionRequest


def asked(*texts: str) -> CompletionRequest:
    messages = tuple(Message(role="user", content=text) for text in texts)
    return CompletionRequest(messages=messages)


def test_a_prompt_is_measured_as_itself_after_another_of_as_many_messages():
    sizes = PromptSizes()
    for request in (asked("a", "b"), asked("a", "word " * 400), asked("c", "d")):
        assert sizes.tokens(request) == prompt_tokens(request)


def test_a_prompt_that_goes_on_is_measured_like_a_new_one():
    sizes, request = PromptSizes(), asked("word " * 400)
    sizes.tokens(request)
    more = request.model_copy(
        update={"messages": request.messages + asked("b").messages}
    )
    assert sizes.tokens(more) == prompt_tokens(more)
