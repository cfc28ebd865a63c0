"""Server-sent events as the JSON values in their data, however a server breaks lines.

Takes what the standard allows (CR, LF, CRLF, several lines of data, comments) and what
servers do beside it: events without a blank line, errors written as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from conversations.json_value import loads

DONE: Final = object()
"""The event that says that this was all."""
NOT_JSON: Final = object()
"""Stands for an event whose data is whole and no JSON."""
_DONE = b"[DONE]"
_MARK = b"\xef\xbb\xbf"


class EventStream:
    """Takes a stream's chunks of bytes; returns its values."""

    def __init__(self, loads: Callable[[bytes], object] = loads) -> None:
        self._loads = loads
        self._parts: list[bytes] = []
        self._after_cr = False
        self._held: list[bytes] = []
        self._type = b""
        self.was_cut = False
        """Whether the end came within an event's data."""

    def feed(self, chunk: bytes) -> list[object]:
        """Take bytes; return the values that are whole."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_newlines(chunk)
        if b"\n" not in chunk:
            self._parts.append(chunk)
            return []
        if self._parts:
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
        *lines, rest = chunk.split(b"\n")
        self._parts = [rest] if rest else []
        return self._values(lines)

    def end(self) -> list[object]:
        """Return what a last line without its end holds, if that is whole.

        A line that was cut is no value.
        """
        found: list[object] = []
        line = b"".join(self._parts).strip()
        self._parts = []
        if line and not self._held:
            data = line.removeprefix(_MARK).removeprefix(b"data:").strip()
            if data == _DONE or self._is_json(data):
                found = self._values([line])
            else:
                self.was_cut = line != data
        self._flush(found)
        return found

    def _with_newlines(self, chunk: bytes) -> bytes:
        """CR and CRLF become LF, also where a chunk ends between the two."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            if not chunk:
                self._after_cr = False
                return b""
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _values(self, lines: list[bytes]) -> list[object]:
        found: list[object] = []
        for raw in lines:
            line = raw.strip().removeprefix(_MARK)
            if line.startswith(b"data:"):
                self._take(line[5:].lstrip(), found)
            elif not line:
                if self._held:
                    self._flush(found)
                self._type = b""
            elif line.startswith(b"event:"):
                self._type = line[6:].strip()
            elif line.startswith((b"{", b"error:")):
                found.append(self._bare(line))
        return found

    def _take(self, data: bytes, found: list[object]) -> None:
        if data == _DONE:
            self._flush(found)
            found.append(DONE)
        elif self._held:
            self._held.append(data)
        elif data:
            try:
                value = self._loads(data)
            except (ValueError, RecursionError):
                self._held.append(data)  # the first of several lines, perhaps
            else:
                found.append(self._typed(value) if self._type else value)

    def _flush(self, found: list[object]) -> None:
        if self._held:
            data = b"\n".join(self._held)
            self._held = []
            try:
                found.append(self._typed(self._loads(data)))
            except (ValueError, RecursionError):
                found.append(NOT_JSON)

    def _typed(self, value: object) -> object:
        """Return the value; as an error where the event's type says so."""
        is_told = isinstance(value, dict) and value.get("error")
        return {"error": value} if self._type == b"error" and not is_told else value

    def _bare(self, line: bytes) -> object:
        """Return an error that a server wrote without the form of an event."""
        text = line.removeprefix(b"error:").strip()
        try:
            value = self._loads(text)
        except (ValueError, RecursionError):
            if text == line:
                return NOT_JSON
            return {"error": text.decode("utf-8", "replace")}
        is_told = isinstance(value, dict) and value.get("error")
        return value if is_told or text == line else {"error": value}

    def _is_json(self, data: bytes) -> bool:
        try:
            self._loads(data)
        except (ValueError, RecursionError):
            return False
        return True
