"""What servers tell of a model besides the common API, and what follows from it.

Each server has its own place for the length of the context, the number of requests
that it answers at once, and whether the model can call tools. Sends no prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from conversations.json_value import JsonObject
from workers.llm.endpoint import Endpoint
from workers.llm.endpoint_client import EndpointClient
from workers.llm.small_answer import ask_small

_MOST = 10**9
"""A number beyond it is none."""
SHORT_CONTEXT_TOKENS = 16_384
"""Below it, an agent with tools soon runs out of room."""


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What could be found out; None where the server does not tell."""

    kind: str = "other"
    context_tokens: int | None = None
    parallel: int | None = None
    tools: bool | None = None


async def read_facts(
    client: EndpointClient,
    endpoint: Endpoint,
    *,
    model: str,
    listed: Mapping[str, object],
) -> ServerFacts:
    """Ask Ollama, then llama.cpp; vLLM and others tell in the list of models."""
    root = endpoint.base_url.removesuffix("/v1")
    length = _count(listed, "max_model_len")
    facts = ServerFacts(context_tokens=length)
    loaded = await _ask(client, f"{root}/api/ps")
    if isinstance(loaded.get("models"), list):
        return await _ollama(client, root, model, loaded)
    properties = await _ask(client, f"{root}/props")
    slots = _count(properties, "total_slots")
    if slots is not None:
        generation = _mapping(properties.get("default_generation_settings"))
        return ServerFacts(
            kind="llama.cpp",
            context_tokens=_count(generation, "n_ctx"),
            parallel=slots,
        )
    return replace(facts, kind="vllm" if length is not None else "other")


async def _ollama(
    client: EndpointClient, root: str, model: str, loaded: Mapping[str, object]
) -> ServerFacts:
    entries = loaded["models"]
    context = None
    for entry in entries if isinstance(entries, list) else ():
        found = _mapping(entry)
        if found.get("name") in {model, f"{model}:latest"}:
            context = _count(found, "context_length")
    shown = await _ask(client, f"{root}/api/show", {"model": model})
    abilities = shown.get("capabilities")
    tools = "tools" in abilities if isinstance(abilities, list) else None
    return ServerFacts(kind="ollama", context_tokens=context, tools=tools)


def advice(facts: ServerFacts, *, model: str, in_flight: int | None) -> tuple[str, ...]:
    """Return one line for each thing that should be changed."""
    lines = []
    context = facts.context_tokens
    if context is not None and context < SHORT_CONTEXT_TOKENS:
        slots = facts.parallel or 1  # each has its share of what llama.cpp is given
        raise_it = {
            "ollama": "OLLAMA_CONTEXT_LENGTH=65536 ollama serve",
            "llama.cpp": f"llama-server -np {slots} --ctx-size {65_536 * slots}",
            "vllm": "vllm serve --max-model-len 65536",
        }.get(facts.kind, "raise it on the server")
        lines.append(f"the context is only {context} tokens; start it with: {raise_it}")
    if facts.kind == "ollama" and in_flight is None:
        lines.append(
            "Ollama answers one request at a time unless OLLAMA_NUM_PARALLEL says more;"
            " set limits.in_flight to that number"
        )
    if facts.parallel is not None and (in_flight or facts.parallel + 1) > (
        facts.parallel
    ):
        lines.append(
            f"it answers {_requests(facts.parallel)} at a time; set limits.in_flight:"
            f" {facts.parallel}"
        )
    if facts.tools is False:
        lines.append(
            f"model {model!r} cannot call tools; use one that can, such as gpt-oss:20b"
        )
    return tuple(lines)


def _requests(count: int) -> str:
    return "one request" if count == 1 else f"{count} requests"


async def _ask(
    client: EndpointClient, url: str, body: JsonObject | None = None
) -> Mapping[str, object]:
    answer = await ask_small(client, url, body)
    return answer.told() if answer.is_success else {}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _count(facts: Mapping[str, object], name: str) -> int | None:
    value = facts.get(name)
    return value if isinstance(value, int) and 0 < value <= _MOST else None
