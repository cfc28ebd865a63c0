"""Names of variables: which set what, and which only look as if they did.

Kubernetes puts names such as `CELERIAC_HTTP_PORT=tcp://…` into every container for a
service of that name, so not each name with our prefix is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import get_args, get_origin

from pydantic import BaseModel

from orchestrator.names import nearest_names
from orchestrator.settings_problems import did_you_mean

WELL_KNOWN = {
    "redis_url": ("storage", "redis_url"),
    "celery_broker_url": ("storage", "broker_url"),
    "openai_base_url": ("llm", "base_url"),
    "openai_api_key": ("llm", "api_key"),
}
"""Names without prefix that other programs use for the same thing."""

PREFIX = "CELERIAC_"
_NO_SETTINGS = {
    "CELERIAC_CONFIG",
    "CELERIAC_SECRETS_DIR",
    "CELERIAC_HEARTBEAT_FILE",
    "CELERIAC_API_KEY",
    "CELERIAC_API_KEY_HASH",
    "CELERIAC_IMAGE",
}
"""Read elsewhere: by programs and docker-compose.yml."""
_OF_KUBERNETES = re.compile(
    r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PORT|PROTO|ADDR))?)?$"
)

_TYPO = 0.85
"""So alike are WORKERS and WORKER, TENNANT and TENANT; not STAGE and STORAGE."""
_FEW = 2
"""A name such as URL, which more settings end with, may well be another program's."""

_ADDRESSES = ("tcp://", "udp://", "sctp://")
"""How Kubernetes writes where a service is."""


def unusable_names(
    settings: type[BaseModel], names: Mapping[str, str | None]
) -> Iterator[str]:
    """Find misspelt sections, and settings written with one `_` for two."""
    known = _sections(settings)
    meant = _written_with_one(settings)
    for name, value in names.items():
        section, nested, rest = name.upper().partition("__")
        if f"{section}_" == PREFIX and nested:
            yield f"{name}: sets nothing; write {PREFIX}{rest}"
        if not section.startswith(PREFIX):
            continue
        if nested:
            if section not in known:
                yield f"{name}: unknown section{did_you_mean(section, known)}"
        elif section in meant and not (value or "").startswith(_ADDRESSES):
            yield f"{name}: sets nothing; write {meant[section]}"


def doubtful_names(
    settings: type[BaseModel], names: Mapping[str, str | None]
) -> Iterator[str]:
    """Find names that set nothing and resemble one that sets something."""
    meant = _written_with_one(settings)
    right = {name: name for name in _sections(settings)} | meant
    known = {name.removeprefix(PREFIX): told for name, told in right.items()}
    for name in names:
        upper = name.upper()
        if not upper.startswith(PREFIX) or "__" in upper:
            continue
        if upper in right or upper in _NO_SETTINGS or _OF_KUBERNETES.search(upper):
            continue
        bare = upper.removeprefix(PREFIX)
        if nearest := _mistyped(bare, known) or _shortened(bare, known):
            yield f"{name} sets nothing; did you mean {known[nearest]}?"


def _mistyped(name: str, known: Iterable[str]) -> str | None:
    return next(iter(nearest_names(name, known, least_alike=_TYPO)), None)


def _shortened(name: str, known: Iterable[str]) -> str | None:
    """Find the one setting, or the shorter of two, that has all words of a name."""
    words = set(name.split("_"))
    found = sorted((each for each in known if words <= {*each.split("_")}), key=len)
    return found[0] if 0 < len(found) <= _FEW else None


def _sections(settings: type[BaseModel]) -> list[str]:
    return [f"{PREFIX}{field}".upper() for field in settings.model_fields]


def _written_with_one(settings: type[BaseModel]) -> dict[str, str]:
    """Map each setting's name with single underscores to the right one."""
    right = {
        PREFIX + "_".join(path).upper(): PREFIX + "__".join(path).upper()
        for path in _paths(settings, ())
        if len(path) > 1
    }
    return right | {f"{PREFIX}{name}".upper(): name.upper() for name in WELL_KNOWN}


def _paths(kind: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    for part in (kind, *(get_args(kind) if get_origin(kind) is UnionType else ())):
        if isinstance(part, type) and issubclass(part, BaseModel):
            for name, field in part.model_fields.items():
                yield from _paths(field.annotation, (*path, name))
