"""What clients may ask for and no agent gives. Pure.

Most of what is not known is passed over. These are refused: without them the answer
would be another, or would lack what the client is going to read in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from orchestrator.http.facade.items import refuse
from orchestrator.http.problem import Problem

_LOGPROBS: Final = "probabilities of tokens are not given; leave it out"
_REMEDIES: Final = {
    "functions": "functions are given as tools, each {type: function, function}",
    "function_call": "it is tool_choice now, and functions are tools",
    "logprobs": _LOGPROBS,
    "top_logprobs": _LOGPROBS,
    "logit_bias": "tokens are the model's, which the agent chooses; leave it out",
    "audio": "answers are text; leave it out",
    "moderation": "nothing is moderated here; ask for it at the model's endpoint",
}
_LOGPROBS_INCLUDED: Final = "message.output_text.logprobs"

Unserved = Annotated[Any, Field(description="Refused.")]


def refuse_unserved(body: BaseModel) -> None:
    """Refuse what is asked for and not given; false, empty and null ask for nothing.

    Raises:
        Problem: names the field and what to do.
    """
    for name, remedy in _REMEDIES.items():
        if getattr(body, name, None):
            raise _unsupported(name, remedy)
    if getattr(body, "web_search_options", None) is not None:  # {} asks for it too
        raise _unsupported("web_search_options", "an agent searches with its own tools")
    if _others(getattr(body, "modalities", None), "text"):
        raise _unsupported("modalities", "answers are text; leave it out")
    included = getattr(body, "include", None)
    if isinstance(included, list) and _LOGPROBS_INCLUDED in included:
        raise _unsupported("include", f"{_LOGPROBS_INCLUDED}: {_LOGPROBS}")


def _others(given: object, known: str) -> bool:
    return isinstance(given, Iterable) and any(each != known for each in given)


def _unsupported(name: str, remedy: str) -> Problem:
    return refuse(name, f"{name} is not taken: {remedy}", code="unsupported_parameter")
