"""Looks whether a model endpoint answers, and what stands in the way if it does not.

`python -m workers.llm.probe --json` for other processes; the exit code is 0 when the
model can be asked, 69 when nobody answers, 78 when the key or the model must change.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping

import httpx
from pydantic import BaseModel, ConfigDict

from orchestrator.errors import InvalidSettings
from orchestrator.llm_settings import LLMSettings
from orchestrator.settings import load_settings
from workers.errors import InvalidEndpoint
from workers.llm.chat_completions import open_client
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.error_mapping import error_from, read_failure, transport_error
from workers.llm.reply_body import OWNER
from workers.llm.stream import FOREIGN_ERRORS

_EX_UNAVAILABLE = 69
_EX_CONFIG = 78


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
    usable: bool = False
    """Nothing that the probe can see stands in the way of a completion."""
    models: tuple[str, ...] = ()
    """The models that it lists; none where it has no list."""
    model_present: bool | None = None
    """Whether the model is among them; None where it has no list."""
    is_double: bool = False
    """It is the scripted double: no model will be called."""
    kind: str = "other"
    """`double`, `ollama`, `llama.cpp` or `other`, as far as can be told."""
    context_tokens: int | None = None
    """Context of the loaded model, where Ollama tells it."""
    remedy: str = ""
    """The one line that makes it usable; empty when it is."""

    @property
    def exit_code(self) -> int:
        """As sysexits.h has it."""
        if self.usable:
            return 0
        return _EX_CONFIG if self.reachable else _EX_UNAVAILABLE


async def probe(
    endpoint: Endpoint, *, model: str, timeout_seconds: float = 3.0
) -> EndpointReport:
    """Ask an endpoint for its models; sends no prompt."""
    report = EndpointReport(base_url=endpoint.base_url, model=model)
    limits = CallLimits(connect_seconds=timeout_seconds)
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            open_client(endpoint, limits) as client,
        ):
            response = await client.get(f"{endpoint.base_url}/models")
            report = _read_models(response, endpoint, report)
            if report.reachable and not report.is_double:
                report = await _ask_ollama(client, report)
    except FOREIGN_ERRORS as exc:
        if isinstance(exc, TimeoutError):
            remedy = (
                f"{endpoint.base_url} did not answer within {timeout_seconds:g} s;"
                f" {endpoint.how_to_reach}"
            )
        else:
            remedy = str(transport_error(exc, endpoint=endpoint))
        if not report.reachable:
            return report.model_copy(update={"remedy": remedy})
    return report


def _read_models(
    response: httpx.Response, endpoint: Endpoint, report: EndpointReport
) -> EndpointReport:
    if response.status_code == 404:  # some proxies have no list; they are alive
        return report.model_copy(update={"reachable": True, "usable": True})
    if not response.is_success:
        failure = read_failure(response.status_code, response.content)
        error = error_from(failure, endpoint=endpoint, model=report.model)
        return report.model_copy(update={"reachable": True, "remedy": str(error)})
    payload = _object(response)
    listed = payload.get("data")
    listed = listed if isinstance(listed, list) else []
    entries = [entry for entry in listed if isinstance(entry, dict)]
    names = tuple(str(entry.get("id")) for entry in entries)
    owners = {entry.get("owned_by") for entry in entries}
    kind = "llama.cpp" if "llamacpp" in owners else "other"
    found = report.model_copy(
        update={
            "reachable": True,
            "models": names,
            "model_present": _is_present(report.model, names) if names else None,
            "is_double": OWNER in owners,
            "kind": "double" if OWNER in owners else kind,
        }
    )
    return _judged(found, endpoint)


def _judged(report: EndpointReport, endpoint: Endpoint) -> EndpointReport:
    # llama.cpp answers with what it has loaded, the double with its script.
    takes_any = report.kind in {"llama.cpp", "double"}
    if takes_any or report.model_present is not False:
        return report.model_copy(update={"usable": True})
    pull = f"`ollama pull {report.model}` or " if endpoint.looks_like_ollama else ""
    remedy = f"{report.base_url} has no model {report.model!r}; {pull}set llm.model"
    return report.model_copy(update={"remedy": remedy})


async def _ask_ollama(
    client: httpx.AsyncClient, report: EndpointReport
) -> EndpointReport:
    """Add what only Ollama's own API tells."""
    root = report.base_url.removesuffix("/v1")
    response = await client.get(f"{root}/api/ps")
    loaded = _object(response).get("models") if response.is_success else None
    if not isinstance(loaded, list):
        return report
    contexts = [
        entry.get("context_length")
        for entry in loaded
        if isinstance(entry, dict) and entry.get("name") == report.model
    ]
    context = next((c for c in contexts if isinstance(c, int)), None)
    return report.model_copy(update={"kind": "ollama", "context_tokens": context})


def _is_present(model: str, names: tuple[str, ...]) -> bool:
    return model in names or f"{model}:latest" in names


def _object(response: httpx.Response) -> Mapping[str, object]:
    try:
        payload = response.json()
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workers.llm.probe",
        description="Say whether a model endpoint can be used; sends no prompt.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--base-url", help="the settings' llm.base_url unless given")
    parser.add_argument("--model", help="the settings' llm.model unless given")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds")
    return parser.parse_args()


def _endpoint(base_url: str | None, settings: LLMSettings) -> Endpoint:
    """Return the endpoint; the key goes to the configured address only."""
    if base_url and base_url.rstrip("/") != settings.base_url:
        return Endpoint(base_url=base_url)
    return Endpoint(
        base_url=settings.base_url,
        api_key=settings.api_key,
        headers=settings.headers,
    )


def main() -> int:
    """Probe, print, and return the exit code."""
    arguments = _arguments()
    try:
        settings = load_settings().llm
        endpoint = _endpoint(arguments.base_url, settings)
    except (InvalidSettings, InvalidEndpoint) as exc:
        sys.stderr.write(f"{exc}\n")
        return _EX_CONFIG
    model = arguments.model or settings.model
    report = asyncio.run(
        probe(endpoint, model=model, timeout_seconds=arguments.timeout)
    )
    if arguments.json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        what = "the scripted double" if report.is_double else report.model
        state = f"{what} can be asked at {report.base_url}"
        sys.stdout.write((report.remedy or state) + "\n")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
