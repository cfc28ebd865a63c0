"""The bytes of an answer, decompressed piece by piece so that none can grow large."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

_PIECE_BYTES = 64 * 1024
"""Of decompressed text at once, however small its compressed form is."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""For zlib. Nothing is asked for; some proxies compress nevertheless."""


def unknown_encoding(response: httpx.Response) -> str:
    """Return the encoding of a body that cannot be read, or an empty text."""
    encoding = _encoding(response)
    return "" if encoding in {"", *_WINDOW_BITS} else encoding


def pieces_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """Iterate over the body; that of an unknown encoding is empty.

    Raises:
        httpx.HTTPError: it breaks off, or is not what its encoding says.
    """
    encoding = _encoding(response)
    if not encoding:
        return response.aiter_raw()
    return _inflated(response, _WINDOW_BITS.get(encoding))


async def _inflated(
    response: httpx.Response, window_bits: int | None
) -> AsyncGenerator[bytes]:
    if window_bits is None:
        return
    inflate = zlib.decompressobj(window_bits)
    try:
        async for chunk in response.aiter_raw():
            rest = chunk
            while rest and not inflate.eof:
                piece = inflate.decompress(rest, _PIECE_BYTES)
                rest = inflate.unconsumed_tail
                if piece:
                    yield piece
    except zlib.error as exc:
        raise httpx.DecodingError(str(exc), request=response.request) from exc
    if not inflate.eof:
        raise httpx.DecodingError("compressed body cut", request=response.request)


def _encoding(response: httpx.Response) -> str:
    header: str = response.headers.get("content-encoding", "")
    encoding = header.strip().lower()
    return "" if encoding == "identity" else encoding
