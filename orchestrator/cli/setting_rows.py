"""The settings as rows: path, value, source. Secrets are masked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from orchestrator.agent_config import AgentConfig
from orchestrator.duration import format_seconds
from orchestrator.settings import Settings


class SettingRow(NamedTuple):
    """One effective value and where it came from."""

    path: str
    value: str
    source: str


def setting_rows(settings: Settings) -> Iterator[SettingRow]:
    """Yield every setting in the order of the file."""
    for keys, value in _leaves((), settings):
        path = ".".join(keys)
        yield SettingRow(path, _shown(path, value, settings), settings.source_of(keys))


def _leaves(
    path: tuple[str, ...], value: object
) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, BaseModel) and not isinstance(value, AgentConfig):
        for name in type(value).model_fields:
            yield from _leaves((*path, name), getattr(value, name))
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves((*path, name), item)
    else:
        yield path, value


def _shown(path: str, value: object, settings: Settings) -> str:
    if path == "storage.redis_url":
        return settings.storage.redacted_redis_url
    if path == "storage.broker_url":
        return settings.storage.redacted_broker_url
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, AgentConfig):
        value = value.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    if isinstance(value, float):  # every float among the settings is a duration
        return format_seconds(value)
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
