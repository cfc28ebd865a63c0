"""What only Ollama's own API tells: the context length of a model that is loaded."""

from __future__ import annotations

import asyncio

from workers.llm.body import BodyTooLarge
from workers.llm.endpoint import Endpoint
from workers.llm.endpoint_client import EndpointClient
from workers.llm.small_answer import ask_small
from workers.llm.stream import FOREIGN_ERRORS

OLLAMA_FINGERPRINT = "fp_ollama"
"""`system_fingerprint` of its answers."""
_SECONDS = 2.0


async def ollama_context(
    client: EndpointClient, endpoint: Endpoint, model: str
) -> int | None:
    """Return the context length of a loaded model; None where it is not told."""
    root = endpoint.base_url.removesuffix("/v1")
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await ask_small(client, f"{root}/api/ps")
    except (*FOREIGN_ERRORS, BodyTooLarge):
        return None
    loaded = answer.told().get("models") if answer.is_success else None
    for entry in loaded if isinstance(loaded, list) else ():
        if isinstance(entry, dict) and _named(entry, model):
            context = entry.get("context_length")
            return context if isinstance(context, int) else None
    return None


def _named(entry: dict[str, object], model: str) -> bool:
    return entry.get("name") in {model, f"{model}:latest"}
