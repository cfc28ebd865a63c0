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
IN_FLIGHT, REQUESTS, TOKENS = 5, 100, 20_000
FREE_RUNS = 10
SMALL_BEFORE, SMALL_BEHIND, FEW_TOKENS = 100, 200, 2000
LARGE_PROMPT = "go " * 1600
"""More than half of the few tokens."""

SETTINGS = f"""
llm:
  limits:
    in_flight: {IN_FLIGHT}
    requests_per_minute: %s
    tokens_per_minute: %s
    window: %ss
agents:
  limited: {{kind: llm, max_output_tokens: 100}}
  free: {{kind: llm, endpoint: other}}
"""


@dataclass
class StrictEndpoint:
    """Answers 429, without saying for how long, beyond its limits."""

    window_seconds: float
    answer_seconds: float
    requests: int = REQUESTS
    tokens: int = TOKENS
    begun: deque[tuple[float, int]] = field(default_factory=deque)
    refused: list[float] = field(default_factory=list)
    started_at: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, body: JsonObject) -> dict[str, object]:
        tokens = len(str(body["messages"])) // 4 + 10
        with self.lock:
            now = monotonic()
            while self.begun and self.begun[0][0] <= now - self.window_seconds:
                self.begun.popleft()
            busy = sum(at > now - self.answer_seconds for at, _ in self.begun)
            spent = sum(taken for _, taken in self.begun)
            if (
                busy >= IN_FLIGHT
                or len(self.begun) >= self.requests
                or spent + tokens > self.tokens
            ):
                self.refused.append(now)
                return {"status": 429}
            self.begun.append((now, tokens))
            self.started_at.append(now)
        return {"text": "done " * 8, "delay_seconds": self.answer_seconds}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("window_seconds", "answer_seconds", "least_used"),
    [
        # A minute in six seconds: the moment that a busy machine takes to hand a slot
        # on counts ten times as much as it would; the slower run has the figure.
        pytest.param(6.0, 0.32, 0.7, id="scaled"),
        pytest.param(24.0, 1.28, 0.95, id="slots", marks=pytest.mark.slow),
    ],
)
def test_a_fleet_uses_an_endpoint_fully_and_is_hardly_ever_refused(
    stand: Stand, window_seconds: float, answer_seconds: float, least_used: float
):
    endpoint = StrictEndpoint(window_seconds, answer_seconds)
    loop = LoopThread("endpoints")
    limited, other = Double(endpoint), Double(lambda _: "free")
    for double in (limited, other):
        loop.await_(double.__aenter__())
    try:
        stand.llm_url = limited.url
        other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
        stand.environment |= {other_url: other.url}
        (stand.directory / "celeriac.yaml").write_text(
            SETTINGS % (REQUESTS, TOKENS, window_seconds)
        )
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
                handle.result(timeout=240)
            tasks = [celeriac.get(handle.id) for handle in handles]
    finally:
        for double in (limited, other):
            loop.await_(double.__aexit__(None, None, None))
        loop.close()

    began, ended = endpoint.started_at[0], endpoint.started_at[-1] + answer_seconds
    used = RUNS * answer_seconds / IN_FLIGHT / (ended - began)
    late = [at for at in endpoint.refused if at > began + 1]
    share = len(late) / RUNS
    print(  # noqa: T201 - the figures of the run
        f"slots used {used:.1%}, refused {len(endpoint.refused)} ({share:.1%} late),"
        f" {ended - began:.1f} s, other endpoint done after {free_done_after} runs"
    )
    assert all(task.failed_attempts == 0 for task in tasks)
    assert share <= 0.01
    assert free_done_after < RUNS
    assert used >= least_used


@pytest.mark.timeout(180)
def test_a_large_call_passes_while_small_ones_take_all_tokens(stand: Stand):
    """A minute in six seconds."""
    allowed = FEW_TOKENS * 5 // 4  # it counts a little more than we estimate
    endpoint = StrictEndpoint(6.0, 0.1, requests=100_000, tokens=allowed)
    loop = LoopThread("endpoints")
    double = Double(endpoint)
    loop.await_(double.__aenter__())
    try:
        stand.llm_url = double.url
        other_url = "CELERIAC_LLM__ENDPOINTS__OTHER__BASE_URL"
        stand.environment |= {other_url: double.url}
        settings = SETTINGS % (endpoint.requests, FEW_TOKENS, endpoint.window_seconds)
        (stand.directory / "celeriac.yaml").write_text(settings)
        for _ in range(WORKERS):
            stand.start_worker(slots=SLOTS, wait=False)
        with Orchestrator(stand.settings()) as celeriac:
            small = {"agent": "limited", "input": {"prompt": "go " * 30}}
            handles = celeriac.submit_many([small] * SMALL_BEFORE)
            large = celeriac.submit("limited", {"prompt": LARGE_PROMPT})
            handles += celeriac.submit_many([small] * SMALL_BEHIND)
            large.result(timeout=120)
            passed_behind = len(endpoint.started_at) - SMALL_BEFORE - 1
            for handle in handles:
                handle.result(timeout=120)
            tasks = [celeriac.get(handle.id) for handle in (large, *handles)]
    finally:
        loop.await_(double.__aexit__(None, None, None))
        loop.close()

    print(  # noqa: T201 - the figures of the run
        f"{max(0, passed_behind)} of {SMALL_BEHIND} small calls that came behind the"
        f" large one passed before it, refused {len(endpoint.refused)}"
    )
    assert all(task.failed_attempts == 0 for task in tasks)
    assert passed_behind < SMALL_BEHIND * 3 / 4
