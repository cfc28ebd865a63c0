"""What is checked of a request's fields that every facade takes alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import BaseModel, JsonValue

from conversations.json_value import NotStorable, check_json
from orchestrator.errors import InvalidInput
from orchestrator.http.answer_forms import form_problem
from orchestrator.http.facade.items import refuse, refuse_nul
from orchestrator.http.facade.response_request import ECHO, FieldNames

_KEPT = re.compile(rf"parameters\.|metadata\.{re.escape(ECHO)}\.")
"""Where a task keeps what a client has sent as fields of their own."""


def check_no_nuls(body: BaseModel, *, besides: str) -> None:
    """Refuse a NUL in any field but `besides`, which is checked where it is read.

    Raises:
        Problem: names the place of the first one.
    """
    fields = body.model_dump(exclude={besides}, exclude_none=True)
    for name, value in fields.items():
        refuse_nul(value, param=name)


async def check_format(parameters: Mapping[str, JsonValue], *, param: str) -> None:
    """Refuse a form for the answer that is no JSON Schema.

    Raises:
        Problem: says what is wrong with it.
    """
    try:
        check_json(parameters.get("output_schema"), path=param)
    except NotStorable as exc:
        raise refuse(exc.path, str(exc)) from None
    if problem := await form_problem(parameters, name=param):
        raise refuse(param, problem)


@contextmanager
def named_as_sent(names: FieldNames) -> Iterator[None]:
    """Name what a submit refuses of a task's fields as the client does.

    Raises:
        InvalidInput: what was refused.
    """
    try:
        yield
    except InvalidInput as exc:
        if not (kept := _KEPT.match(exc.field)):
            raise
        field = exc.field[kept.end() :]
        field = re.sub(r"^output_schema\b", names.schema, field)
        field = re.sub(r"^reasoning_effort\b", names.effort, field)
        field = re.sub(r"^tools\[\d+\]", rf"\g<0>{names.function}", field)
        raise InvalidInput(field, exc.reason) from None
