"""Whether the form that a request asks its answer in can be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from conversations.json_value import size_of
from orchestrator.errors import AgentNotFound, InvalidInput
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.output_schema import schema_problem

MOST_SCHEMA_BYTES: Final = 131_072
"""Checking so much takes half a second of a processor; OpenAI takes less."""
_OBEYS: Final = "llm"
"""The kind of agent that reads the parameter; to others it may mean anything."""


async def form_problem(parameters: Mapping[str, JsonValue], *, name: str) -> str:
    """Say what is wrong with `output_schema`, which its sender calls `name`, or ''.

    Other requests go on meanwhile.
    """
    schema = parameters.get("output_schema")
    if not isinstance(schema, dict):
        return ""
    if size_of(schema) > MOST_SCHEMA_BYTES:
        return f"may have at most {MOST_SCHEMA_BYTES} bytes as JSON"
    return await asyncio.to_thread(schema_problem, schema, name=name)


async def check_output_schema(
    celeriac: AsyncOrchestrator, agent: str, parameters: Mapping[str, JsonValue]
) -> None:
    """Refuse a form that the agent's run would fail with.

    Raises:
        InvalidInput: it is no JSON Schema.
    """
    if "output_schema" not in parameters:
        return
    try:
        kind = (await celeriac.agent(agent)).config.kind
    except AgentNotFound:
        return
    field = "parameters.output_schema"
    if kind == _OBEYS and (problem := await form_problem(parameters, name=field)):
        raise InvalidInput(field, problem)
