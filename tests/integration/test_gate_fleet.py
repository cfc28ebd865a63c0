"""A fleet before one endpoint that refuses what passes its limits; time is scaled."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

import pytest

from conversations.json_value import JsonObject
from orchestrator import Orchestrator
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand
from workers.llm.double import Double

RUNS, WORKERS, SLOTS = 200, 4, 8
IN_FLIGHT, REQUESTS, TOKENS, WINDOW_SECONDS = 5, 100, 20_000, 6.0
ANSWER_SECONDS = 0.32
FREE_RUNS = 10

SETTINGS = f"""
llm:
  limits:
    in_flight: {IN_FLIGHT}
    requests_per_minute: {REQUESTS}
    tokens_per_minute: {TOKENS}
    window: {WINDOW_SECONDS}s
agents:
  limited: {{kind: llm, max_output_tokens: 100}}
  free: {{kind: llm, endpoint: other}}
"""


@dataclass
class StrictEndpoint:
    """Answers 429, without saying for how long, beyond its limits."""

    begun: deque[tuple[float, int]] = field(default_factory=deque)
    refused: list[float] = field(default_factory=list)
    started_at: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, body: JsonObject) -> dict[str, object]:
        tokens = len(str(body["messages"])) // 4 + 10
        with self.lock:
            now = monotonic()
            while self.begun and self.begun[0][0] <= now - WINDOW_SECONDS:
                self.begun.popleft()
            busy = sum(at > now - ANSWER_SECONDS for at, _ in self.begun)
            spent = sum(taken for _, taken in self.begun)
            if (
                busy >= IN_FLIGHT
                or len(self.begun) >= REQUESTS
                or spent + tokens > TOKENS
            ):
                self.refused.append(now)
                return {"status": 429}
            self.begun.append((now, tokens))
            self.started_at.append(now)
        return {"text": "done " * 8, "delay_seconds": ANSWER_SECONDS}


@pytest.mark.timeout(180)
def test_a_fleet_uses_an_endpoint_fully_and_is_hardly_ever_refused(stand: Stand):
    endpoint, loop = StrictEndpoint(), LoopThread("endpoints")
    limited, other = Double(endpoint), Double(lambda _: "free")
    for double in (limited, other):
        loop.await_(double.__aenter__())
    try:
        stand.llm_url = limited.url
        other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
        stand.environment |= {other_url: other.url}
        (stand.directory / "celeriac.yaml").write_text(SETTINGS)
        for _ in range(WORKERS):
            stand.start_worker(slots=SLOTS, wait=False)
        with Orchestrator(stand.settings()) as celeriac:
            handles = celeriac.submit_many(
                [{"agent": "limited", "input": {"prompt": "go"}}] * RUNS
            )
            free = celeriac.submit_many(
                [{"agent": "free", "input": {"prompt": "go"}}] * FREE_RUNS
            )
            for handle in free:
                handle.result(timeout=60)
            free_done_after = len(endpoint.started_at)
            for handle in handles:
                handle.result(timeout=120)
            tasks = [celeriac.get(handle.id) for handle in handles]
    finally:
        for double in (limited, other):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()

    began, ended = endpoint.started_at[0], endpoint.started_at[-1] + ANSWER_SECONDS
    used = RUNS * ANSWER_SECONDS / IN_FLIGHT / (ended - began)
    late = [at for at in endpoint.refused if at > began + 1]
    share = len(late) / RUNS
    print(  # noqa: T201 - the figures of the run
        f"slots used {used:.1%}, refused {len(endpoint.refused)} ({share:.1%} late),"
        f" {ended - began:.1f} s, other endpoint done after {free_done_after} runs"
    )
    assert all(task.failed_attempts == 0 for task in tasks)
    assert share <= 0.01
    assert free_done_after < RUNS
    assert used >= 0.7  # 0.95 on a machine of its own
