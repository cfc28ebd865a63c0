"""What only Ollama's own API tells: the context length of a model that is loaded."""

from __future__ import annotations

import asyncio
import json

import httpx

from workers.llm.body import encoding_in, pieces_of
from workers.llm.endpoint import Endpoint
from workers.llm.stream import FOREIGN_ERRORS

OLLAMA_FINGERPRINT = "fp_ollama"
"""`system_fingerprint` of its answers."""
_SECONDS = 2.0
_MOST_BYTES = 1024 * 1024


async def ollama_context(
    client: httpx.AsyncClient, endpoint: Endpoint, model: str
) -> int | None:
    """Return the context length of a loaded model; None where it is not told."""
    root = endpoint.base_url.removesuffix("/v1")
    try:
        async with (
            asyncio.timeout(_SECONDS),
            client.stream("GET", f"{root}/api/ps") as response,
        ):
            payload = await _payload(response) if response.is_success else None
    except (*FOREIGN_ERRORS, ValueError, RecursionError):
        return None
    loaded = payload.get("models") if isinstance(payload, dict) else None
    for entry in loaded if isinstance(loaded, list) else ():
        if isinstance(entry, dict) and _named(entry, model):
            context = entry.get("context_length")
            return context if isinstance(context, int) else None
    return None


async def _payload(response: httpx.Response) -> object:
    body = b""
    async for piece in pieces_of(response.aiter_raw(), encoding_in(response.headers)):
        body += piece
        if len(body) > _MOST_BYTES:
            raise ValueError("more than a list of models")
    return json.loads(body)


def _named(entry: dict[str, object], model: str) -> bool:
    return entry.get("name") in {model, f"{model}:latest"}
