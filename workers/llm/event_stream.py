"""Server-sent events as the JSON values in their data, however a server breaks lines.

Takes what the standard allows (CR, LF, CRLF, several lines of data, comments) and what
servers do beside it: events without a blank line, errors written as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

DONE: Final = object()
"""The event that says that this was all."""
_DONE = b"[DONE]"
_MARK = b"\xef\xbb\xbf"


class NotJson(Exception):
    """An event's data is whole and no JSON."""


class EventStream:
    """Takes a stream's chunks of bytes; yields its values."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._after_cr = False
        self._held: list[bytes] = []
        self._type = b""
        self.was_cut = False
        """Whether the end came within an event's data."""

    def feed(self, chunk: bytes) -> Iterator[object]:
        """Take bytes; yield the values that are whole.

        Raises:
            NotJson: while iterating.
        """
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_newlines(chunk)
        if b"\n" not in chunk:
            self._parts.append(chunk)
            return iter(())
        *lines, rest = b"".join((*self._parts, chunk)).split(b"\n")
        self._parts = [rest]
        return self._values(lines)

    def end(self) -> Iterator[object]:
        """Yield what a last line without its end holds, if that is whole.

        Raises:
            NotJson: while iterating; a line that was cut is none.
        """
        line = b"".join(self._parts).strip()
        self._parts = []
        if line and not self._held:
            data = _data(line)
            if data == _DONE or _is_json(data):
                yield from self._values([line])
            else:
                self.was_cut = line != data
        yield from self._flush()

    def _with_newlines(self, chunk: bytes) -> bytes:
        """CR and CRLF become LF, also where a chunk ends between the two."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            if not chunk:
                self._after_cr = False
                return b""
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _values(self, lines: list[bytes]) -> Iterator[object]:
        for raw in lines:
            line = raw.strip().removeprefix(_MARK)
            if not line:
                yield from self._flush()
                self._type = b""
            elif line.startswith(b"data:"):
                yield from self._take(line[5:].strip())
            elif line.startswith(b"event:"):
                self._type = line[6:].strip()
            elif line.startswith((b"{", b"error:")):
                yield from self._bare(line)

    def _take(self, data: bytes) -> Iterator[object]:
        if data == _DONE:
            yield from self._flush()
            yield DONE
        elif self._held:
            self._held.append(data)
        elif data:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                self._held.append(data)  # the first of several lines, perhaps
            else:
                yield self._typed(value)

    def _flush(self) -> Iterator[object]:
        if self._held:
            data = b"\n".join(self._held)
            self._held = []
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as exc:
                raise NotJson from exc
            yield self._typed(value)

    def _typed(self, value: object) -> object:
        """Return the value; as an error where the event's type says so."""
        is_told = isinstance(value, dict) and value.get("error")
        return {"error": value} if self._type == b"error" and not is_told else value

    @staticmethod
    def _bare(line: bytes) -> Iterator[object]:
        """An error that a server wrote without the form of an event."""
        text = line.removeprefix(b"error:").strip()
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            if text is not line:
                yield {"error": text.decode("utf-8", "replace")}
                return
            raise NotJson from exc
        is_told = isinstance(value, dict) and value.get("error")
        yield value if is_told or text == line else {"error": value}


def _data(line: bytes) -> bytes:
    return line.removeprefix(_MARK).removeprefix(b"data:").strip()


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
