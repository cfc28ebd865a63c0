"""A real Prometheus takes our configuration, scrapes us, and answers the dashboard.

Skipped where it is not installed (Debian: `apt install prometheus`);
CELERIAC_PROMETHEUS may name a directory with the two programs.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from conversations.message import ToolCall
from orchestrator.errors import TaskFailed
from orchestrator.http.auth import hash_of
from tests.http_service import serving
from workers.errors import RequestRejected, StreamTruncated

ROOT = Path(__file__).parents[2]
PLACE = os.environ.get("CELERIAC_PROMETHEUS") or os.environ.get("PATH")
PROMETHEUS = shutil.which("prometheus", path=PLACE)
PROMTOOL = shutil.which("promtool", path=PLACE)
pytestmark = [
    pytest.mark.skipif(
        not (PROMETHEUS and PROMTOOL), reason="Prometheus is not installed"
    ),
    pytest.mark.timeout(180),
]
KEY = "scraper"
NOWHERE = "http://127.0.0.1:9/v1"
NEVER_HERE = re.compile(r"celeriac_(llm_)?(gate|worker|queue|cost)_")
"""What a system in one process has none of: workers, limited and priced endpoints."""


def configuration(target: str) -> dict[str, Any]:
    """The compose file's configuration of Prometheus, for another target."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    text = compose["configs"]["prometheus"]["content"]
    found: dict[str, Any] = yaml.safe_load(
        text.replace("${CELERIAC_API_KEY:-}", KEY).replace("http:8000", target)
    )
    found["global"]["scrape_interval"] = "1s"
    return found


def expressions() -> list[str]:
    board = json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())
    texts = [
        target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    windows = [text.replace("$__rate_interval", "1m") for text in texts]
    return [re.sub(r"\$\w+", ".*", text) for text in windows]


@asynccontextmanager
async def prometheus(
    directory: Path, target: str, port: int
) -> AsyncIterator[httpx.AsyncClient]:
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration(target)))
    assert PROMETHEUS is not None
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


async def ask(client: httpx.AsyncClient, expression: str) -> list[Any]:
    answer = await client.get("/query", params={"query": expression})
    body = answer.json()
    assert body["status"] == "success", (expression, body)
    found: list[Any] = body["data"]["result"]
    return found


async def until_scraped(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if len(
                    await ask(client, "count_over_time(celeriac_tasks_total[1m]) > 3")
                ):
                    return
            except (httpx.TransportError, json.JSONDecodeError):
                pass  # it starts, and then says so in plain text
            await asyncio.sleep(0.2)


def test_the_configuration_of_the_compose_file_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration("http:8000")))
    assert PROMTOOL is not None
    command = [PROMTOOL, "check", "config", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_every_panel_has_an_answer(tmp_path: Path, unused_tcp_port: int) -> None:
    replies = [
        [ToolCall(id="c0", name="weather", arguments={"city": "Rome"})],
        "sunny",
        StreamTruncated("cut", endpoint=NOWHERE),
        "again",
        RequestRejected("no", endpoint=NOWHERE, status=400),
    ]
    scopes = ["read", "submit", "operate"]
    keys = {"scraper": {"hash": hash_of(KEY), "scopes": scopes}}
    async with serving(replies, http={"keys": keys}) as service:
        for status in ("completed", "completed", "failed"):
            handle = await service.celeriac.submit("forecaster", {"prompt": "hi"})
            with suppress(TaskFailed):
                await handle.result(20)
            assert await handle.status() == status
        target = service.url.removeprefix("http://")
        async with prometheus(tmp_path, target, unused_tcp_port) as client:
            await until_scraped(client)
            empty = [text for text in expressions() if not await ask(client, text)]
    assert [text for text in empty if not NEVER_HERE.search(text)] == []
