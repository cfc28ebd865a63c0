"""What Flower tells of agents that run in a real worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import Orchestrator, TaskFailed
from tests.integration.cli_stand import endpoint
from tests.integration.flower_stand import flower
from tests.stand import Stand

CANARY = "canary"
TASK = {"prompt": f"What is a {CANARY}?", "customer": f"{CANARY} & Sons"}
OPTIONS: dict[str, Any] = {
    "context": {"token": f"{CANARY}-token"},
    "parameters": {"instructions": f"Speak of the {CANARY}."},
    "metadata": {"order": f"{CANARY}-17"},
    "tags": (f"{CANARY}-tag",),
    "idempotency_key": f"{CANARY}-key",
}
SETTINGS = """
agents:
  desk: {kind: llm, instructions: Keep the canary.}
  lost: {kind: llm, endpoint: nobody, retry: {max_attempts: 1}}
llm: {endpoints: {nobody: {base_url: "http://127.0.0.1:9/v1"}}}
"""


@pytest.mark.timeout(180)
def test_it_shows_one_name_per_agent_the_state_and_ids_only(
    stand: Stand, unused_tcp_port: int
) -> None:
    (stand.directory / "celeriac.yaml").write_text(SETTINGS)
    stand.environment["OPENAI_API_KEY"] = f"{CANARY}-api-key"
    with (
        endpoint(stand, [f"A {CANARY} sings."]),
        flower(stand, unused_tcp_port) as watching,
        Orchestrator(stand.settings()) as celeriac,
    ):
        stand.start_worker()
        answered = celeriac.submit("desk", TASK, **OPTIONS)
        assert answered.result(timeout=60).content == f"A {CANARY} sings."
        failing = celeriac.submit("lost", TASK)
        with pytest.raises(TaskFailed):
            failing.result(timeout=60)
        tasks = watching.tasks({answered.id: ["SUCCESS"], failing.id: ["FAILURE"]})
        pages = watching.pages(list(tasks))
    assert_told(tasks, answered.id, name="agent.desk", result="'completed'")
    assert_told(tasks, failing.id, name="agent.lost", result=None)
    assert "llm_unavailable" in tasks[failing.id]["exception"]
    assert f"http://127.0.0.1:{unused_tcp_port}" in watching.log.read_text()
    for text in (json.dumps(tasks), *pages, watching.log.read_text()):
        assert CANARY not in text


def assert_told(
    tasks: dict[str, Any], task_id: str, *, name: str, result: str | None
) -> None:
    told = tasks[task_id]
    assert (told["name"], told["result"]) == (name, result)
    assert (told["args"], told["kwargs"]) == (f"({task_id})", "{tenant: default}")
