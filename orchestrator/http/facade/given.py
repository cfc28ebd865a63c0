"""What is checked of a request's fields that every facade takes alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic import BaseModel, JsonValue

from conversations.json_value import size_of
from orchestrator.http.facade.items import refuse, refuse_nul
from orchestrator.output_schema import schema_problem

MOST_SCHEMA_BYTES = 131_072
"""Checking so much takes half a second of a processor; OpenAI takes less."""


def check_no_nuls(body: BaseModel, *, besides: str) -> None:
    """Refuse a NUL in any field but `besides`, which is checked where it is read.

    Raises:
        Problem: names the place of the first one.
    """
    fields = body.model_dump(exclude={besides}, exclude_none=True)
    for name, value in fields.items():
        refuse_nul(value, param=name)


async def check_format(parameters: Mapping[str, JsonValue], *, param: str) -> None:
    """Refuse a form for the answer that is no JSON Schema; other requests go on.

    Raises:
        Problem: says what is wrong with it.
    """
    schema = parameters.get("output_schema")
    if isinstance(schema, dict):
        if size_of(schema) > MOST_SCHEMA_BYTES:
            raise refuse(param, f"may have at most {MOST_SCHEMA_BYTES} bytes as JSON")
        problem = await asyncio.to_thread(schema_problem, schema, name=param)
        if problem:
            raise refuse(param, problem)
