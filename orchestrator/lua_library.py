"""The task scripts as one library of functions, for servers that keep such.

Redis runs a script's text from the top at each call, so that its functions are defined
anew: a quarter of what a call costs. A library's are defined once. It is made of the
same text: what is found between functions is run at each call where it hangs on the
call, and what stands at the top of a script before its first statement likewise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Final, NamedTuple

from orchestrator.lua_pruning import parts, reached

_LOCAL: Final = re.compile(r"local ([\w, ]+) = (.+)")
_NAME: Final = re.compile(r"\w+")
PREFIX: Final = "celeriac_"
"""Begins the names of our libraries and functions."""
_DIGITS: Final = 16
"""Of its digest in a function's name, which each call sends."""
_OF_A_CALL: Final = frozenset({"KEYS", "ARGV", "redis"})
_FEW: Final = 3
"""What no more scripts reach stands with each of them: Lua takes 200 names at once."""


class Library(NamedTuple):
    """A library and what its functions are called, by script."""

    name: str
    code: str
    functions: Mapping[str, str]


class Script(NamedTuple):
    """The text of a script."""

    own: str
    functions: str = ""
    """Stand before it and hang on no call."""


def library(shared: str, scripts: Mapping[str, Script]) -> Library:
    """Make one of scripts that stand behind the same shared functions.

    Raises:
        ValueError: between the shared functions stands more than `local` lines.
    """
    homes = _homes(shared, scripts)
    defined, of_a_call = _shared(shared, homes)
    pieces = {name: _hoisted(script) for name, script in scripts.items()}
    text = f"{shared}{scripts}".encode()
    digest = sha1(text, usedforsecurity=False).hexdigest()[:_DIGITS]
    library_name = f"{PREFIX}{digest}"
    functions = {name: f"{library_name}_{name}" for name in scripts}
    code = "\n".join(
        (
            f"#!lua name={library_name}",
            "local KEYS, ARGV",
            *defined,
            "local function begin(keys, argv)",
            "KEYS, ARGV = keys, argv",
            *of_a_call,
            "end",
            *(
                _registered(functions[name], pieces[name], homes.of(name))
                for name in scripts
            ),
        )
    )
    return Library(library_name, code, functions)


class _Hoisted(NamedTuple):
    """A script in three: what is defined once, its first lines, and the rest."""

    defined: list[str]
    first: list[str]
    body: str


class _Homes(NamedTuple):
    """Shared functions that few scripts reach: they stand with each of these."""

    users: Mapping[str, Sequence[str]]
    texts: Sequence[tuple[str, str]]

    def of(self, script: str) -> list[str]:
        return [text for name, text in self.texts if script in self.users.get(name, ())]


def _homes(shared: str, scripts: Mapping[str, Script]) -> _Homes:
    pieces = list(parts(shared))
    users: dict[str, list[str]] = {name: [] for name, _ in pieces if name}
    for script, text in scripts.items():
        for name in reached(pieces, text.functions + text.own):
            users[name].append(script)
    few = {name: those for name, those in users.items() if len(those) <= _FEW}
    return _Homes(few, pieces)


def _shared(text: str, homes: _Homes) -> tuple[list[str], list[str]]:
    """What is defined once for many scripts, and what is run at each call."""
    defined: list[str] = []
    of_a_call: list[str] = []
    names = set(_OF_A_CALL)
    for function, part in parts(text):
        if function in homes.users:
            continue
        for line in [part] if function else part.splitlines():
            found = None if function else _LOCAL.fullmatch(line)
            if found and names.intersection(_NAME.findall(found[2])):
                names.update(_NAME.findall(found[1]))
                defined.append(f"local {found[1]}")
                of_a_call.append(f"{found[1]} = {found[2]}")
            elif function or found or not line:
                defined.append(line)
            else:
                raise ValueError(f"stands between shared functions: {line}")
    return defined, of_a_call


def _hoisted(text: Script) -> _Hoisted:
    """Take functions and whole `local` lines from the top of a script."""
    script = _Hoisted([text.functions], [], "")
    pieces = [
        (function, piece)
        for function, part in parts(text.own)
        for piece in ([part] if function else part.splitlines())
        if piece
    ]
    for place, (function, piece) in enumerate(pieces):
        found = None if function else _LOCAL.fullmatch(piece)
        goes_on = place + 1 < len(pieces) and pieces[place + 1][1].startswith(" ")
        if function:
            script.defined.append(piece)
        elif found and not goes_on:
            script.defined.append(f"local {found[1]}")
            script.first.append(f"{found[1]} = {found[2]}")
        else:
            return script._replace(body="\n".join(p for _, p in pieces[place:]))
    return script


def _registered(name: str, script: _Hoisted, shared: Sequence[str]) -> str:
    return "\n".join(
        (
            "do",
            *shared,
            *script.defined,
            f"redis.register_function('{name}', function(keys, argv)",
            "begin(keys, argv)",
            *script.first,
            script.body,
            "end)",
            "end",
        )
    )
