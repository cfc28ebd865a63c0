"""Answers as data: what the model is told, and whether its text fits the schema."""

from __future__ import annotations

import asyncio
import json
from functools import cached_property
from typing import Any

from jsonschema.exceptions import best_match
from pydantic import JsonValue

from conversations.json_value import JsonObject, check_json
from orchestrator.bounded_validator import BoundedValidator, TooManySteps, bounded
from orchestrator.output_schema import registry_of, schema_problem, unfenced
from orchestrator.schema_pattern import TextTooLong
from workers.errors import AgentFailed

_ORDER = (
    "Your final answer must be one JSON value that fits this JSON Schema, and nothing"
    " else: no explanation, no code fence.\n"
)


class OutputFormat:
    """The schema of an agent's answer."""

    def __init__(self, schema: JsonObject) -> None:
        """Take a JSON Schema (draft 2020-12).

        Raises:
            AgentFailed: it is none; says where.
        """
        if problem := schema_problem(schema):
            raise AgentFailed(problem, code="invalid_output_schema")
        self.schema = schema

    @property
    def instructions(self) -> str:
        """What the system prompt says, for servers that ignore `response_format`."""
        return _ORDER + json.dumps(self.schema, ensure_ascii=False)

    @cached_property
    def _validator(self) -> Any:
        return BoundedValidator(self.schema, registry=registry_of(self.schema))

    async def read(self, text: str) -> tuple[JsonValue, str]:
        """Return the value that a text holds and what is wrong with it, or ''.

        Reads in a thread: a long answer may take a second, and other runs go on.

        Raises:
            AgentFailed: the schema makes the check too long.
        """
        return await asyncio.to_thread(self._read, text)

    def _read(self, text: str) -> tuple[JsonValue, str]:
        try:
            value = check_json(json.loads(unfenced(text)))
        except (ValueError, RecursionError) as exc:
            return None, f"it is not JSON ({str(exc)[:200]})"
        try:
            with bounded():
                error = best_match(self._validator.iter_errors(value))
        except TextTooLong as exc:
            return None, str(exc)
        except (TooManySteps, RecursionError) as exc:
            reason = exc if isinstance(exc, TooManySteps) else "it is nested too deeply"
            raise AgentFailed(
                f"{reason} to check the answer against output_schema; simplify it",
                code="invalid_output_schema",
            ) from None
        if error is not None:
            return None, f"{error.json_path}: {error.message[:500]}"
        return value, ""
