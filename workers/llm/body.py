"""The bytes of an answer, decompressed piece by piece so that none can grow large."""

from __future__ import annotations

import zlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
)

from aiohttp import ClientPayloadError, StreamReader

_PIECE_BYTES = 64 * 1024
"""Of decompressed text at once, however small its compressed form is."""
_CHUNK_BYTES = 16 * 1024
"""Of compressed text at once."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""For zlib. Nothing is asked for; some proxies compress nevertheless."""
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
    inflate = None
    try:
        async for chunk in chunks:
            if inflate is None:
                inflate = zlib.decompressobj(_window_of(chunk, window_bits))
            rest = chunk
            while rest and not inflate.eof:
                piece = inflate.decompress(rest, _PIECE_BYTES)
                rest = inflate.unconsumed_tail
                if piece:
                    yield piece
    except zlib.error as exc:
        raise Undecodable(str(exc)) from exc
    if inflate is None or not inflate.eof:
        raise ClientPayloadError("compressed body cut")


def _window_of(begin: bytes, window_bits: int) -> int:
    """Return what zlib is to expect: some send `deflate` bare, as its name says."""
    is_bare = window_bits == _WINDOW_BITS["deflate"] and begin[0] & 0x0F != _DEFLATED
    return -window_bits if is_bare else window_bits
