"""Records what a real endpoint answers, as a script that the double can replay.

`python -m workers.llm.recorder answers.yaml` serves on loopback, passes each request on
to the endpoint of the settings and prints its own address as the double does. Only
answers are kept: status, content type, the waits that limits ask for, and the body
without the key and the headers' values.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import yaml

from conversations.json_value import JsonObject
from orchestrator.errors import InvalidSettings
from orchestrator.llm_settings import DEFAULT_ENDPOINT
from orchestrator.settings import load_settings
from workers.errors import InvalidEndpoint
from workers.llm.double import HEADER, Double
from workers.llm.double_script import HttpReply
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import open_client
from workers.llm.endpoint_settings import endpoint_of
from workers.llm.error_mapping import transport_error
from workers.llm.stream import FOREIGN_ERRORS

_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms")
_KEPT_PREFIX = "x-ratelimit-"


class Recorder:
    """A double's script that asks an endpoint, and writes down each answer."""

    def __init__(self, endpoint: Endpoint, path: Path) -> None:
        self._endpoint = endpoint
        self._path = path
        self._client = open_client(endpoint, CallLimits())
        path.write_text("", encoding="utf-8")

    async def __call__(self, body: JsonObject) -> HttpReply:
        url = f"{self._endpoint.base_url}/chat/completions"
        try:
            response = await self._client.post(url, json=body)
        except FOREIGN_ERRORS as exc:
            error = transport_error(exc, endpoint=self._endpoint)
            return HttpReply(status=502, text=str(error))
        headers = {
            name: self._endpoint.scrub(value)
            for name, value in response.headers.items()
            if name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIX)
        }
        reply = HttpReply(
            status=response.status_code,
            headers=headers,
            body=self._endpoint.scrub(response.text),
        )
        fields = reply.model_dump(include={"status", "headers", "body"})
        with self._path.open("a", encoding="utf-8") as file:
            yaml.safe_dump([fields], file, allow_unicode=True, sort_keys=False)
        return reply.model_copy(update={"headers": {**headers, HEADER: "recording"}})

    async def aclose(self) -> None:
        """Close the connections to the endpoint."""
        await self._client.aclose()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workers.llm.recorder",
        description="Pass requests on to an endpoint and record what it answers.",
    )
    parser.add_argument("file", type=Path, help="YAML file to write; replaced")
    parser.add_argument("--endpoint", default=DEFAULT_ENDPOINT, help="its name")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    settings = load_settings().llm.by_name.get(arguments.endpoint)
    if settings is None:
        raise InvalidSettings([f"no endpoint is named {arguments.endpoint!r}"])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    recorder = Recorder(endpoint_of(settings), arguments.file)
    try:
        async with Double(recorder, port=arguments.port) as double:
            sys.stdout.write(json.dumps({"url": double.url}) + "\n")
            sys.stdout.flush()
            await stop.wait()
    finally:
        await recorder.aclose()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(_arguments()))
    except (InvalidSettings, InvalidEndpoint, OSError) as exc:
        sys.exit(str(exc))
