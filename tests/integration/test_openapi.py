"""The OpenAPI document: whole, and true for whatever it allows to be sent.

CELERIAC_EXAMPLES says how many calls of each operation are tried (4), always others.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.http_service import serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = int(os.environ.get("CELERIAC_EXAMPLES", "4"))
DOCUMENT = create_app(Settings(storage={"backend": "memory"})).openapi()
schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The service, on a loop of its own thread: schemathesis blocks."""
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def run() -> None:
        async with serving(lambda _: "ok", http={"max_wait": "5s"}) as service:
            found.append(service.url)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(30)
    yield found[0]
    stop.set()
    thread.join(30)


def test_every_operation_is_described() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            name = f"{method} {path}"
            assert operation.get("description") or operation.get("summary"), name
            answers = operation["responses"]
            assert any(status.startswith("2") for status in answers), name
            if path not in ("/healthz",):
                assert "401" in answers or not operation.get("security"), name


def test_bodies_have_examples() -> None:
    bodies = DOCUMENT["components"]["schemas"]
    for name in ("SubmitBody", "ResponseRequest", "ChatRequest", "DecisionBody"):
        assert bodies[name]["examples"], name


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
    derandomize="CELERIAC_EXAMPLES" not in os.environ,
)
@pytest.mark.filterwarnings(  # schemathesis draws from `random` itself
    "ignore::hypothesis.errors.HypothesisDeprecationWarning"
)
@pytest.mark.timeout(120 + EXAMPLES)
def test_no_call_ends_in_an_error_of_ours(case: Any, url: str) -> None:
    response = case.call(base_url=url, timeout=20)
    case.validate_response(response, checks=CHECKS)
