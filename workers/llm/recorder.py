"""Records what a real endpoint answers, as a script that the double can replay.

`python -m workers.llm.recorder answers.yaml` serves on loopback, passes each request on
to the endpoint of the settings and prints its own address as the double does. Only
answers are kept: status, content type, the waits that limits ask for, and the body.
None is written of which it cannot be shown that it is without the key, the headers'
values and the proxy's login.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from contextlib import aclosing
from pathlib import Path

import yaml

from conversations.json_value import JsonObject, dumps
from orchestrator.errors import InvalidSettings
from orchestrator.llm_settings import DEFAULT_ENDPOINT
from orchestrator.settings import load_settings
from workers.errors import InvalidEndpoint, LLMError
from workers.llm.body import BodyTooLarge, gathered
from workers.llm.call_clock import CallClock
from workers.llm.double import HEADER, Double
from workers.llm.double_script import HttpReply
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import open_client
from workers.llm.endpoint_settings import endpoint_of, limits_of
from workers.llm.recorded_answer import MayHoldSecret, kept_body, kept_text
from workers.llm.stream import FOREIGN_ERRORS
from workers.llm.transport_errors import transport_error

_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms")
_CHUNK_BYTES = 64 * 1024
_KEPT_PREFIX = "x-ratelimit-"


class Recorder:
    """A double's script that asks an endpoint, and writes down each answer."""

    def __init__(
        self, endpoint: Endpoint, path: Path, *, limits: CallLimits | None = None
    ) -> None:
        self._endpoint = endpoint
        self._path = path
        self._limits = limits or CallLimits()
        self._client = open_client(endpoint, self._limits)
        path.write_text("", encoding="utf-8")

    async def __call__(self, body: JsonObject) -> HttpReply:
        clock = CallClock(self._endpoint, total_seconds=self._limits.total_seconds)
        try:
            kept = await clock.bound(self._asked(body), float("inf"))
        except LLMError as exc:
            return _not_recorded(str(exc))
        except FOREIGN_ERRORS as exc:
            return _not_recorded(str(transport_error(exc, endpoint=self._endpoint)))
        except BodyTooLarge:
            return _not_recorded(
                f"{self._endpoint.base_url} sent more than {self._limits.max_bytes}"
                " bytes; raise max_response_bytes"
            )
        except MayHoldSecret as exc:
            return _not_recorded(
                f"the answer of {self._endpoint.base_url} {exc}; it was not recorded:"
                " ask in another way, or record with a key that you then withdraw"
            )
        with self._path.open("a", encoding="utf-8") as file:
            yaml.safe_dump([kept], file, allow_unicode=True, sort_keys=False)
        reply = HttpReply.model_validate(kept)
        headers = {**reply.headers, HEADER: "recording"}
        return reply.model_copy(update={"headers": headers})

    async def _asked(self, body: JsonObject) -> dict[str, object]:
        """Pass a request on; return what is kept of the answer."""
        url = f"{self._endpoint.base_url}/chat/completions"
        text = dumps(body).encode()
        async with aclosing(await self._client.post_json(url, lambda: text)) as sent:
            secrets = self._endpoint.secrets
            raw = await gathered(
                sent.body.iter_chunked(_CHUNK_BYTES),
                sent.headers,
                most_bytes=self._limits.max_bytes,
            )
            headers = {
                name.lower(): kept_text(value, secrets)
                for name, value in sent.headers.items()
                if name.lower() in _KEPT_HEADERS
                or name.lower().startswith(_KEPT_PREFIX)
            }
            kept = kept_body(raw, secrets)
            return {"status": sent.status, "headers": headers, "body": kept}

    async def aclose(self) -> None:
        """Close the connections to the endpoint."""
        await self._client.aclose()


def _not_recorded(why: str) -> HttpReply:
    """Tell the client and who watches the recorder."""
    sys.stderr.write(f"recorder: {why}\n")
    return HttpReply(status=502, text=why)


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
    recorder = Recorder(
        endpoint_of(settings), arguments.file, limits=limits_of(settings)
    )
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
