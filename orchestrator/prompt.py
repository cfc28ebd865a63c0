"""The words of a task's input that a model is given: a pure function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

PROMPT_FIELDS: Final = ("prompt", "query", "question", "message", "text", "input")
"""Where a task's input may hold the words for the model, in order of preference."""


def prompt_of(data: Mapping[str, JsonValue]) -> str:
    """Return the words for the model: a prompt field alone, else all as JSON."""
    for field in PROMPT_FIELDS:
        value = data.get(field)
        if isinstance(value, str) and value.strip() and len(data) == 1:
            return value
    return json.dumps(data, ensure_ascii=False, indent=2)
