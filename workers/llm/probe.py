"""Looks whether a model endpoint answers, and what stands in the way if it does not.

`python -m workers.llm.probe --json` for other processes; the exit code is 0 when the
model can be asked, 69 when nobody answers (now), 78 when key or model must change.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from contextlib import aclosing

from pydantic import BaseModel, ConfigDict, ValidationError

from conversations.mending import mended
from conversations.message import Message, Role
from orchestrator.errors import InvalidSettings
from orchestrator.llm_settings import DEFAULT_ENDPOINT, EndpointSettings
from orchestrator.plain_text import told
from orchestrator.settings import load_settings
from workers.errors import InvalidEndpoint, LLMError, LLMUnavailable, RateLimited
from workers.llm.body import BodyTooLarge
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import EndpointClient, open_client
from workers.llm.endpoint_settings import endpoint_of
from workers.llm.error_mapping import error_from, read_failure
from workers.llm.provider import CompletionRequest, ToolSpec
from workers.llm.reply_body import OWNER
from workers.llm.server_facts import ServerFacts, advice, read_facts
from workers.llm.small_answer import MOST_BYTES, SmallAnswer, ask_small
from workers.llm.stream import FOREIGN_ERRORS
from workers.llm.transport_errors import transport_error

_EX_UNAVAILABLE = 69
_EX_CONFIG = 78
_STANDS_IN_THE_WAY = (401, 402, 403, 407, 429, 502, 503, 504)
"""As the answer to an empty request; other refusals are what is expected of it."""
_MOST_ERROR_BYTES = 64 * 1024
_MOST_NAMES = 8
"""Models that a remedy lists; a hosted endpoint has hundreds."""


class EndpointReport(BaseModel):
    """What a probe found."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    base_url: str
    """The endpoint that was asked."""
    model: str
    """The model that was looked for."""
    reachable: bool = False
    """Something answers in HTTP."""
    is_busy: bool = False
    """It answers, but with a failure that may pass."""
    usable: bool = False
    """Nothing that the probe can see stands in the way of a completion."""
    models: tuple[str, ...] = ()
    """The models that it lists; none where it has no list."""
    model_present: bool | None = None
    """Whether the model is among them; None where it has no list."""
    is_double: bool = False
    """It is the scripted double: no model will be called."""
    kind: str = "other"
    """`double`, `ollama`, `llama.cpp`, `vllm` or `other`, as far as can be told."""
    context_tokens: int | None = None
    """Context of the loaded model, where the server tells it."""
    parallel: int | None = None
    """Requests that it answers at once, where the server tells it."""
    tools: bool | None = None
    """Whether the model can call tools, where the server tells it or was asked."""
    advice: tuple[str, ...] = ()
    """What should be changed though it is usable, one line each."""
    remedy: str = ""
    """The one line that makes it usable; empty when it is."""

    @property
    def exit_code(self) -> int:
        """As sysexits.h has it."""
        if self.usable:
            return 0
        is_there = self.reachable and not self.is_busy
        return _EX_CONFIG if is_there else _EX_UNAVAILABLE


async def probe(
    endpoint: Endpoint,
    *,
    model: str,
    timeout_seconds: float = 3.0,
    in_flight: int | None = None,
) -> EndpointReport:
    """Ask an endpoint for its models and what it tells of them; sends no prompt."""
    report = EndpointReport(base_url=endpoint.base_url, model=model)
    limits = CallLimits(connect_seconds=timeout_seconds)
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            aclosing(open_client(endpoint, limits)) as client,
        ):
            answer = await ask_small(client, f"{endpoint.base_url}/models")
            if answer.status == 404:
                return await _ask_completions(client, endpoint, report)
            report = _read_models(answer, endpoint, report)
            if report.usable and not report.is_double:
                listed = _listed(answer, model)
                facts = await read_facts(client, endpoint, model=model, listed=listed)
                report = _with_facts(report, facts, in_flight)
    except BodyTooLarge:
        if not report.reachable:
            return _no_endpoint(report, f"answers with more than {MOST_BYTES} bytes")
    except FOREIGN_ERRORS as exc:
        if not report.reachable:
            return _not_reached(exc, endpoint, report, timeout_seconds)
    return report


def _not_reached(
    exc: Exception, endpoint: Endpoint, report: EndpointReport, seconds: float
) -> EndpointReport:
    remedy = str(transport_error(exc, endpoint=endpoint))
    if isinstance(exc, TimeoutError):
        remedy = (
            f"{endpoint.base_url} did not answer within {seconds:g} s;"
            f" {endpoint.how_to_reach}"
        )
    return report.model_copy(update={"remedy": remedy})


async def _ask_completions(
    client: EndpointClient, endpoint: Endpoint, report: EndpointReport
) -> EndpointReport:
    """Send an empty request, to be refused: some proxies have no list of models."""
    answer = await ask_small(client, f"{endpoint.base_url}/chat/completions", {})
    if answer.status in (404, 405):
        return _no_endpoint(report, "has no /models and no /chat/completions")
    if answer.status in _STANDS_IN_THE_WAY or 300 <= answer.status < 400:
        return _refused(answer, endpoint, report)
    if answer.is_success and not answer.told():
        return _no_endpoint(report, "answers /chat/completions with what is no JSON")
    return report.model_copy(update={"reachable": True, "usable": True})


def _refused(
    answer: SmallAnswer, endpoint: Endpoint, report: EndpointReport
) -> EndpointReport:
    text = answer.raw[:_MOST_ERROR_BYTES].decode("utf-8", "replace")
    failure = read_failure(answer.status, text)
    error = error_from(failure, endpoint=endpoint, model=report.model)
    is_busy = isinstance(error, LLMUnavailable | RateLimited)
    found = {"reachable": True, "is_busy": is_busy, "remedy": str(error)}
    return report.model_copy(update=found)


def _no_endpoint(report: EndpointReport, what: str) -> EndpointReport:
    remedy = (
        f"{report.base_url} {what} and is no model endpoint;"
        " set OPENAI_BASE_URL to an address ending in /v1"
    )
    return report.model_copy(update={"reachable": True, "remedy": remedy})


def _read_models(
    answer: SmallAnswer, endpoint: Endpoint, report: EndpointReport
) -> EndpointReport:
    if not answer.is_success:
        return _refused(answer, endpoint, report)
    told = answer.told()
    has_none = told.get("object") == "list" and told.get("data", "") is None  # Ollama
    if not (has_none or isinstance(told.get("data"), list)):
        return _no_endpoint(report, "answers /models without a `data` list")
    entries = _entries(answer)
    names = tuple(entries)
    owners = {str(entry.get("owned_by")) for entry in entries.values()}
    kind = "llama.cpp" if "llamacpp" in owners else "other"
    is_present = _is_present(report.model, names) if names or has_none else None
    found = report.model_copy(
        update={
            "reachable": True,
            "models": names,
            "model_present": is_present,
            "is_double": OWNER in owners,
            "kind": "double" if OWNER in owners else kind,
        }
    )
    loads_by_name = any("status" in entry for entry in entries.values())
    takes_any = found.is_double or (kind == "llama.cpp" and not loads_by_name)
    return _judged(found, endpoint, takes_any=takes_any)


def _entries(answer: SmallAnswer) -> dict[str, Mapping[str, object]]:
    """Return the models of a list by name; what has none is none."""
    listed = answer.told().get("data")
    return {
        mended(entry["id"]): entry
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }


def _judged(
    report: EndpointReport, endpoint: Endpoint, *, takes_any: bool
) -> EndpointReport:
    """Tell whether the model is there.

    llama.cpp answers any name with what it has loaded, unless it has several to load;
    the double answers with its script.
    """
    if takes_any or report.model_present is not False:
        return report.model_copy(update={"usable": True})
    pull = f"`ollama pull {report.model}` or " if endpoint.looks_like_ollama else ""
    remedy = (
        f"{report.base_url} has no model {report.model!r}; {pull}set llm.model"
        f" (CELERIAC_LLM__MODEL) to one that it has: {_some(report.models)}"
    )
    return report.model_copy(update={"remedy": remedy})


def _some(names: tuple[str, ...]) -> str:
    if not names:
        return "none yet"
    rest = len(names) - _MOST_NAMES
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _with_facts(
    report: EndpointReport, facts: ServerFacts, in_flight: int | None
) -> EndpointReport:
    return report.model_copy(
        update={
            "kind": report.kind if facts.kind == "other" else facts.kind,
            "context_tokens": facts.context_tokens,
            "parallel": facts.parallel,
            "tools": facts.tools,
            "advice": advice(facts, model=report.model, in_flight=in_flight),
        }
    )


def _listed(answer: SmallAnswer, model: str) -> Mapping[str, object]:
    """Return the model's entry in the list, if it has one."""
    entries = _entries(answer)
    return entries.get(model) or entries.get(f"{model}:latest") or {}


async def ask_for_tool_call(
    report: EndpointReport, provider: ChatCompletionsProvider
) -> EndpointReport:
    """Have the model call a tool once, and add whether it did."""
    request = CompletionRequest(
        messages=(Message(role=Role.USER, content="Call the tool `ping` now."),),
        tools=(ToolSpec(name="ping", description="Answers pong."),),
        max_output_tokens=512,
    )
    try:
        called = bool((await provider.complete(request)).message.tool_calls)
    except LLMError as exc:
        called, remedy = False, str(exc)
    else:
        remedy = f"model {report.model!r} called no tool when told to; use another"
    lines = report.advice if called else (*report.advice, remedy)
    return report.model_copy(update={"tools": called, "advice": lines})


def _is_present(model: str, names: tuple[str, ...]) -> bool:
    return model in names or f"{model}:latest" in names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workers.llm.probe",
        description="Say whether a model endpoint can be used; sends no prompt.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--endpoint", help="one of llm.endpoints; else llm itself")
    parser.add_argument("--base-url", help="another address, asked without the key")
    parser.add_argument("--model", help="the endpoint's own unless given")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds")
    parser.add_argument(
        "--ask", action="store_true", help="have the model call a tool (one completion)"
    )
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> EndpointSettings:
    """Return the endpoint to probe; a key goes to its configured address only.

    Raises:
        InvalidSettings: the settings cannot be used, or name no such endpoint.
    """
    known = load_settings().llm.by_name
    name = arguments.endpoint or DEFAULT_ENDPOINT
    if name not in known:
        raise InvalidSettings(
            [f"endpoint {name!r} is not among llm.endpoints: {', '.join(known)}"]
        )
    settings = known[name]
    url = arguments.base_url
    if url and url.rstrip("/") != settings.base_url:
        return EndpointSettings(base_url=url, model=settings.model)
    return settings


async def _probe(arguments: argparse.Namespace) -> EndpointReport:
    settings = _settings(arguments)
    endpoint = endpoint_of(settings)
    model = arguments.model or settings.model
    report = await probe(
        endpoint,
        model=model,
        timeout_seconds=arguments.timeout,
        in_flight=settings.limits.in_flight,
    )
    if not (arguments.ask and report.usable):
        return report
    provider = ChatCompletionsProvider(endpoint, model=model)
    try:
        return await ask_for_tool_call(report, provider)
    finally:
        await provider.aclose()


def main() -> int:
    """Probe, print, and return the exit code."""
    arguments = _arguments()
    try:
        report = asyncio.run(_probe(arguments))
    except (InvalidSettings, InvalidEndpoint, ValidationError) as exc:
        sys.stderr.write(f"{exc}\n")
        return _EX_CONFIG
    if arguments.json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        what = "the scripted double" if report.is_double else report.model
        state = f"{what} can be asked at {report.base_url}"
        lines = (report.remedy or state, *report.advice)
        sys.stdout.write("\n".join(map(told, lines)) + "\n")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
