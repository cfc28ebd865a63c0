"""Where settings are read: environment, .env, secrets directory, file, `celeriac up`.

Each place becomes a `Layer` of plain values; nothing is validated here but the form.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from socket import AF_INET, AF_UNIX, socket
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from dotenv.parser import parse_stream
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError
from pydantic_settings.sources.utils import parse_env_vars

from orchestrator.settings_file import SettingsFileError, read_settings_file
from orchestrator.settings_names import (
    PREFIX,
    WELL_KNOWN,
    doubtful_names,
    unusable_names,
)

DEFAULT_FILE = Path("celeriac.yaml")
CONFIG: Final = "CELERIAC_CONFIG"
SECRETS_DIR: Final = "CELERIAC_SECRETS_DIR"
_PLACES: Final = (CONFIG, SECRETS_DIR)
"""Variables that name where else to look; they too may stand in `.env`."""
_DEFAULT_SECRETS = Path("/run/secrets")
_LONGEST_SECRET_BYTES = 64 * 1024

UP_URL_FILE = Path(".celeriac") / "redis.url"
"""Where `celeriac up` says which Redis it started."""
UP_LAYER = "celeriac up"
_ANSWER_SECONDS = 0.5

ABSENT: Final = object()
_NULL: Final = "null"


@dataclass(frozen=True)
class Layer:
    """The values of one place; earlier layers win."""

    name: str
    values: Mapping[str, Any] = field(repr=False)
    is_committed: bool = False
    """True for the file that belongs under version control."""

    def value_at(self, path: Sequence[str]) -> Any:
        """Return the value that this place sets at a path, or `ABSENT`."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return ABSENT
            value = value[key]
        return value

    def keys_at(self, path: Sequence[str]) -> Collection[str]:
        """Return the keys of the mapping that this place sets at a path, if it does."""
        value = self.value_at(path)
        return value.keys() if isinstance(value, Mapping) else ()


@dataclass(frozen=True)
class Origin:
    """All places that settings were read from, strongest first.

    Any two are equal, so that settings are compared by their values alone.
    """

    layers: tuple[Layer, ...] = field(default=(), compare=False)
    doubts: tuple[str, ...] = field(default=(), compare=False)
    """Names that were found and set nothing, although they look as if they should."""

    def merged(self) -> dict[str, Any]:
        """Combine the layers' mappings key by key."""
        merged: dict[str, Any] = {}
        for layer in reversed(self.layers):
            merged = _over(merged, layer.values)
        return merged

    def source_of(self, path: Sequence[str]) -> str:
        """Name the place that sets the value at a path."""
        for layer in self.layers:
            if layer.value_at(path) is not ABSENT:
                return layer.name
        return "default"


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _over(below, value)
        else:
            merged[key] = value
    return merged


def _spelt_as(values: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Spell names that the file has too as it does.

    No variable can tell capitals, and none in a shell hyphens.
    """
    capitals = {key.lower().replace("-", "_"): key for key in file}
    capitals |= {key.lower(): key for key in file}
    spelt: dict[str, Any] = {}
    for key, value in values.items():
        name = key if key in file else capitals.get(key, key)
        below = file.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            spelt[name] = _spelt_as(value, below)
        else:
            spelt[name] = value
    return spelt


class _NamedValues(EnvSettingsSource):
    """The environment's rules, applied to names from any place."""

    def __init__(
        self, settings: type[BaseSettings], names: Mapping[str, str | None]
    ) -> None:
        self._names = names
        super().__init__(settings, case_sensitive=False)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(
            self._names, False, self.env_ignore_empty, self.env_parse_none_str
        )


def read_layers(
    settings: type[BaseSettings], path: Path | None, overrides: Mapping[str, Any]
) -> tuple[Origin, list[str]]:
    """Return every place's values, strongest first, and what could not be read."""
    problems: list[str] = []
    layers = [Layer("arguments", overrides)]
    doubts: list[str] = []
    dotenv = _dotenv(problems, doubts)
    named = {name: os.environ.get(name) or dotenv.get(name) for name in _PLACES}
    try:
        file_layers = _from_file(path or named[CONFIG])
    except SettingsFileError as exc:
        problems.append(str(exc))
        file_layers = []
    in_file = file_layers[0].values if file_layers else {}
    for name, names in (
        ("environment", os.environ),
        (".env", dotenv),
        ("secrets directory", _secrets(named[SECRETS_DIR], problems, doubts)),
    ):
        layers += [
            replace(layer, values=_spelt_as(layer.values, in_file))
            for layer in _from_names(settings, name, names, problems)
        ]
        doubts += doubtful_names(settings, names)
    layers += file_layers
    layers += _from_up()
    return Origin(tuple(layers), tuple(doubts)), problems


def _from_names(
    settings: type[BaseSettings],
    name: str,
    names: Mapping[str, str | None],
    problems: list[str],
) -> Iterator[Layer]:
    problems += unusable_names(settings, names)
    try:
        yield Layer(name, _NamedValues(settings, names)())
    except SettingsError:
        problems += _not_json(settings, name, names)
    for variable, value in names.items():
        place = WELL_KNOWN.get(variable.lower())
        if place and value:
            plain = None if value == _NULL else value
            yield Layer(f"{name} ({variable})", {place[0]: {place[1]: plain}})


def _not_json(
    settings: type[BaseSettings], place: str, names: Mapping[str, str | None]
) -> Iterator[str]:
    """Find the variables that should hold JSON; a value may be secret."""
    for variable, value in names.items():
        try:
            _NamedValues(settings, {variable: value})()
        except SettingsError:
            yield (
                f"{place}: {variable} is not JSON ({len(value or '')} characters);"
                ' write a list like ["a", "b"], a mapping like {"a": 1}'
            )


def _from_up() -> Iterator[Layer]:
    """Find the Redis of a `celeriac up` that runs in this directory."""
    try:
        url = UP_URL_FILE.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return
    if _answers(url):
        yield Layer(UP_LAYER, {"storage": {"redis_url": url}})


def _answers(url: str) -> bool:
    """Whether somebody listens there; one that was killed left its file behind."""
    try:
        parts = urlsplit(url)
        is_socket = parts.scheme == "unix"
        with socket(AF_UNIX if is_socket else AF_INET) as probe:
            probe.settimeout(_ANSWER_SECONDS)
            probe.connect(
                unquote(parts.path) if is_socket else (parts.hostname, parts.port)
            )
    except (OSError, ValueError, TypeError):
        return False
    return True


def _dotenv(problems: list[str], doubts: list[str]) -> Mapping[str, str | None]:
    path = Path(".env")
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(
            f".env: cannot be read ({type(exc).__name__}); make it readable UTF-8 text"
        )
        return {}
    names: dict[str, str | None] = {}
    for line in parse_stream(StringIO(text)):
        has_no_value = line.key is not None and line.value is None
        if line.error or (has_no_value and _may_be_ours(line.original.string)):
            # Other programs may read what we do not; a setting must not be lost.
            told = doubts if not _may_be_ours(line.original.string) else problems
            told.append(
                f".env: line {line.original.line} cannot be read;"
                " write NAME=value, and close its quotes"
            )
        elif line.key is not None:
            names[line.key] = line.value
    return names


def _may_be_ours(text: str) -> bool:
    return any(name in text.lower() for name in (PREFIX.lower(), *WELL_KNOWN))


def _secrets(
    given: str | None, problems: list[str], doubts: list[str]
) -> Mapping[str, str | None]:
    directory = Path(given) if given else _DEFAULT_SECRETS
    if not directory.is_dir():
        if given:
            problems.append(
                f"{SECRETS_DIR}: {given} is not a directory; create it or unset"
                " the variable"
            )
        return {}
    try:
        paths = [path for path in sorted(directory.iterdir()) if _is_ours(path)]
    except OSError as exc:
        told = problems if given else doubts  # others may have secrets there, too
        told.append(
            f"{directory}: secrets cannot be looked for ({exc.strerror}); let this user"
            f" read the directory, or name another in {SECRETS_DIR}"
        )
        return {}
    return {path.name: _secret(path, problems) for path in paths}


def _is_ours(path: Path) -> bool:
    name = path.name.lower()
    return (name in WELL_KNOWN or name.startswith("celeriac_")) and path.is_file()


def _secret(path: Path, problems: list[str]) -> str | None:
    try:
        content = path.read_bytes()[: _LONGEST_SECRET_BYTES + 1]
        if len(content) <= _LONGEST_SECRET_BYTES:
            return content.decode("utf-8").strip()
        reason = f"larger than {_LONGEST_SECRET_BYTES} bytes"
    except (OSError, UnicodeDecodeError) as exc:
        reason = type(exc).__name__
    problems.append(
        f"{path}: the secret cannot be read ({reason}); make it a short text file"
        " that this user may read"
    )
    return None


def _from_file(given: Path | str | None) -> list[Layer]:
    file = Path(given) if given else DEFAULT_FILE
    if not given and not os.path.lexists(file):
        return []
    return [Layer(file.name, read_settings_file(file), is_committed=True)]
