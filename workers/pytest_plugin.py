"""Fixtures for the tests of agents: `llm_double`, `run_agent`, and a guard.

Loaded by pytest wherever Celeriac is installed (`-p no:celeriac` switches it off), so
it imports nothing of ours before a fixture is used: coverage would miss it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from orchestrator.task import TaskResult
    from workers.agent_bench import DoubleBench
    from workers.llm.endpoint import CallLimits, Endpoint

GUARD = "CELERIAC_LLM__LOOPBACK_ONLY"
MARKER = "real_llm"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}: may ask a model endpoint that is not on this machine"
    )


@pytest.fixture(autouse=True)
def _celeriac_loopback_only(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have settings and providers refuse endpoints that are not on this machine."""
    if request.node.get_closest_marker(MARKER) is not None:
        return
    monkeypatch.setenv(GUARD, "true")
    provider = sys.modules.get("workers.llm.chat_completions")
    if provider is not None:
        guarded = partial(_open_on_loopback, provider.open_client)
        monkeypatch.setattr(provider, "open_client", guarded)


def _open_on_loopback(
    open_client: Callable[..., Any], endpoint: Endpoint, limits: CallLimits
) -> Any:
    """Open a client, unless it would leave this machine.

    Raises:
        InvalidEndpoint: it would.
    """
    if not endpoint.is_loopback:
        refused: type[Exception] = import_module("workers.errors").InvalidEndpoint
        raise refused(
            f"a test must not ask {endpoint.base_url}; give the provider"
            f" llm_double.url, or mark the test with {MARKER}"
        )
    return open_client(endpoint, limits)


@pytest.fixture
def llm_double() -> Iterator[DoubleBench]:
    """A scripted endpoint; the test fails when script and calls do not match."""
    bench: DoubleBench = import_module("workers.agent_bench").DoubleBench()
    try:
        yield bench
        problems = bench.problems()
    finally:
        bench.close()
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)


@pytest.fixture
def run_agent(llm_double: DoubleBench) -> Callable[..., TaskResult]:
    """Run an agent on an input, in memory, its model being `llm_double`."""
    return llm_double.run_agent
