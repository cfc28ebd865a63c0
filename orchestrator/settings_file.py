"""Reads `celeriac.yaml`: one safe YAML document, no surprises, one line per problem."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

_LARGEST_BYTES = 1024 * 1024

_LOOK = "look at the indentation, colons and quotes there and in the line before"


class SettingsFileError(Exception):
    """The file cannot be used; the message is one line with the remedy."""


class _Loader(yaml.SafeLoader):
    """Refuses what YAML allows and a settings file should not hold."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "aliases (*name) are not supported; write the value out",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key_node.value!r} is not text; quote it"
            elif key in seen:
                problem = f"the key {key!r} stands twice; remove one"
            else:
                seen.add(key)
                continue
            raise yaml.constructor.ConstructorError(
                None, None, problem, key_node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the file's mapping; an empty file is an empty mapping.

    Raises:
        SettingsFileError: says what is wrong, with the line where there is one.
    """
    text = _text(path)
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as exc:
        raise SettingsFileError(_marked(path, exc)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise SettingsFileError(f"{path}: not YAML ({reason}); correct it") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsFileError(
            f"{path}: holds a {type(value).__name__}, not a mapping;"
            " start with a section such as `services:`"
        )
    return value


def _text(path: Path) -> str:
    if not path.is_file():
        reason = "is not a regular file" if path.exists() else "does not exist"
        raise SettingsFileError(
            f"{path}: {reason}; create it, or leave out the path (CELERIAC_CONFIG)"
        )
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise SettingsFileError(
            f"{path}: cannot be read ({exc.strerror}); check its permissions"
        ) from None
    if len(content) > _LARGEST_BYTES:
        raise SettingsFileError(
            f"{path}: {len(content)} bytes exceed {_LARGEST_BYTES}; shorten the file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise SettingsFileError(
            f"{path}: line {line} is not UTF-8; save the file as UTF-8"
        ) from None


def _marked(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}: line {mark.line + 1}" if mark else str(path)
    problem = f"{error.problem or 'cannot be read'}; {_LOOK}"
    if isinstance(error, yaml.constructor.ConstructorError):
        problem = error.problem or "cannot be read"
    if "'\\t'" in problem:
        problem = "a tab cannot indent YAML; use spaces"
    elif error.context and "single document" in error.context:
        problem = "a second document starts here; keep one"
    elif "could not determine a constructor" in problem:
        problem = "tags (!…) are not supported; write plain values"
    return f"{where}: {problem}"
