"""The bytes of an answer, decompressed piece by piece so that none can grow large."""

from __future__ import annotations

import zlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from typing import Any

from aiohttp import ClientPayloadError, StreamReader

_PIECE_BYTES = 64 * 1024
"""Of decompressed text at once, however small its compressed form is."""
_CHUNK_BYTES = 16 * 1024
"""Of compressed text at once."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""For zlib. Nothing is asked for; some proxies compress nevertheless."""
_GZIP_MAGIC = b"\x1f\x8b"
"""A gzip member's first bytes; a body may be several (RFC 1952, section 2.2)."""
_DEFLATED = 8
"""The low half of the first byte of a body in zlib's envelope (RFC 1950)."""


class Undecodable(ClientPayloadError):
    """A body is not what its encoding says, or that is not known."""


class BodyTooLarge(Exception):
    """More came than the reader takes."""


def encoding_in(headers: Mapping[str, str]) -> str:
    """Return the encoding of a body; an empty text where there is none."""
    encoding = headers.get("content-encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


def is_known(encoding: str) -> bool:
    """Whether a body in this encoding can be read."""
    return not encoding or encoding in _WINDOW_BITS


def pieces_of(chunks: AsyncIterable[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Iterate over the body that comes in chunks; one of unknown encoding is empty.

    Raises:
        Undecodable: it is not what its encoding says.
        ClientPayloadError: it breaks off.
    """
    if not encoding:
        return aiter(chunks)
    return _inflated(chunks, _WINDOW_BITS.get(encoding))


def piece_by_piece(body: StreamReader, encoding: str) -> Callable[[], Awaitable[bytes]]:
    """Return what reads the next piece of a body, nothing at its end.

    Raises:
        Undecodable: it is not what its encoding says.
        ClientPayloadError: it breaks off.
    """
    if not encoding:
        return body.readany
    pieces = pieces_of(body.iter_chunked(_CHUNK_BYTES), encoding)
    return lambda: anext(pieces, b"")


async def gathered(
    chunks: AsyncIterable[bytes], headers: Mapping[str, str], *, most_bytes: int
) -> bytes:
    """Read a body that comes in chunks to its end.

    Raises:
        BodyTooLarge: more came.
        Undecodable: it is not what its encoding says, or of an unknown one.
        ClientPayloadError: it breaks off.
    """
    encoding = encoding_in(headers)
    if not is_known(encoding):
        raise Undecodable(f"unknown encoding {encoding[:40]!r}")
    pieces, size = [], 0
    async for piece in pieces_of(chunks, encoding):
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise BodyTooLarge
    return b"".join(pieces)


async def _inflated(
    chunks: AsyncIterable[bytes], window_bits: int | None
) -> AsyncGenerator[bytes]:
    if window_bits is None:
        return
    body = _Compressed(window_bits)
    try:
        async for chunk in chunks:
            for piece in body.inflated(chunk):
                yield piece
    except zlib.error as exc:
        raise Undecodable(str(exc)) from exc
    if not body.is_whole:
        raise ClientPayloadError("compressed body cut")


class _Compressed:
    """A body of which more and more has come."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._member: Any = None
        """What zlib has made of it so far; gzip's may be several."""

    @property
    def is_whole(self) -> bool:
        return self._member is not None and self._member.eof

    def inflated(self, chunk: bytes) -> Iterator[bytes]:
        rest, is_full = chunk, False
        while (rest or is_full) and self._goes_on(rest):
            piece = self._member.decompress(rest, _PIECE_BYTES)
            if piece:
                yield piece
            # zlib may hold back text although it has taken all that there was.
            is_full = len(piece) == _PIECE_BYTES
            rest = self._member.unconsumed_tail or self._member.unused_data

    def _goes_on(self, rest: bytes) -> bool:
        """Whether it does with these bytes; what follows the last member is padding."""
        if self._member is None or (self._member.eof and self._begins_member(rest)):
            self._member = zlib.decompressobj(_window_of(rest, self._window_bits))
        return not self._member.eof

    def _begins_member(self, rest: bytes) -> bool:
        is_gzip = self._window_bits == _WINDOW_BITS["gzip"]
        begin = rest[: len(_GZIP_MAGIC)]
        return is_gzip and begin != b"" and _GZIP_MAGIC.startswith(begin)


def _window_of(begin: bytes, window_bits: int) -> int:
    """Return what zlib is to expect: some send `deflate` bare, as its name says."""
    is_bare = window_bits == _WINDOW_BITS["deflate"] and begin[0] & 0x0F != _DEFLATED
    return -window_bits if is_bare else window_bits
