"""Flower as `celeriac flower` starts it, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.cli_stand import process
from tests.stand import Stand, wait_until

SECONDS = 60.0


@dataclass
class Watching:
    """A Flower that runs."""

    client: httpx.Client
    log: Path

    def page(self, path: str) -> str:
        """Return what is at a path; nothing while it does not answer."""
        try:
            answer = self.client.get(path)
        except httpx.HTTPError:
            return ""
        return answer.text if answer.is_success else ""

    def tasks(self, states: Mapping[str, Collection[str]]) -> dict[str, Any]:
        """Return its tasks, once each of some is in one of its states."""
        shown: dict[str, Any] = {}

        def all_there() -> bool:
            shown.clear()
            shown.update(self.client.get("/api/tasks").raise_for_status().json())
            return all(
                shown.get(task_id, {}).get("state") in wanted
                for task_id, wanted in states.items()
            )

        wait_until(all_there, SECONDS, lambda: f"Flower shows {shown}")
        return shown

    def everything(self, states: Mapping[str, Collection[str]]) -> list[str]:
        """Return all that it shows then, as texts."""
        tasks = self.tasks(states)
        return [json.dumps(tasks), *self.pages(states)]

    def pages(self, ids: Collection[str]) -> list[str]:
        """Return its pages: those of some tasks, of all, and of the workers."""
        found = [self.page(f"/task/{task_id}") for task_id in ids]
        assert all(each in page for each, page in zip(ids, found, strict=True))
        return [*found, self.page("/tasks"), self.page("/api/workers")]


@contextmanager
def flower(stand: Stand, port: int, *, login: str = "") -> Iterator[Watching]:
    """Run a Flower on the stand's broker; without a login its API is open, too."""
    name = "FLOWER_BASIC_AUTH" if login else "FLOWER_UNAUTHENTICATED_API"
    stand.environment[name] = login or "true"
    user, _, password = login.partition(":")
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        auth=(user, password) if login else None,
        timeout=10,
        trust_env=False,
    )
    with process(stand, "flower", "--port", str(port)) as (running, log), client:
        watching = Watching(client, log)

        def healthy() -> bool:
            assert running.poll() is None, log.read_text()
            return bool(watching.page("/healthcheck"))

        wait_until(healthy, SECONDS, log.read_text)
        yield watching
