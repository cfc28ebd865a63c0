"""A trace context is taken from the caller, kept apart and passed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import pytest
from opentelemetry import context, trace

from orchestrator.agent_config import AgentConfig
from orchestrator.errors import InvalidInput
from orchestrator.request import Defaults, parse_request
from orchestrator.task_building import build_task, request_of
from orchestrator.trace_context import carry, is_traceparent, present_traceparent

THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


@contextmanager
def current_span(traceparent: str) -> Iterator[None]:
    """What OpenTelemetry's SDK does with a span of its own."""
    _, trace_id, span_id, flags = traceparent.split("-")
    span = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), False, trace.TraceFlags(int(flags, 16))
    )
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span)))
    try:
        yield
    finally:
        context.detach(token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        THEIRS.upper(),
        THEIRS + "\n",
        THEIRS + "-00",
        "ff" + THEIRS[2:],
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        THEIRS.replace("0af7", '0a"7'),
    ],
)
def test_what_is_no_trace_context_is_refused_and_never_carried(text: str) -> None:
    assert not is_traceparent(text)
    with pytest.raises(InvalidInput, match="traceparent"):
        parse_request({"agent": "a", "traceparent": text})
    copy_context().run(_carries_nothing, text)


def _carries_nothing(text: str) -> None:
    carry(text)
    assert present_traceparent() is None


def built(**fields: object) -> str | None:
    request = parse_request({"agent": "a", **fields})
    task = build_task(request, agent=AgentConfig(name="a"), defaults=Defaults())
    assert request_of(task).traceparent == task.traceparent
    return task.traceparent


def test_a_task_takes_the_callers_context_its_span_or_what_was_carried() -> None:
    assert built() is None
    with current_span(OTHER):
        assert built() == OTHER
        assert built(traceparent=THEIRS) == THEIRS
    copy_context().run(carry, THEIRS)
    assert built() is None

    def within() -> None:
        carry(THEIRS)
        assert built() == THEIRS

    copy_context().run(within)


def test_a_run_goes_on_below_its_own_trace_and_not_below_another() -> None:
    """Whoever rings for a task may be within the span of another one."""

    def within(span: str, carried: str) -> str | None:
        with current_span(span):
            carry(carried)
            return present_traceparent()

    assert copy_context().run(within, OTHER, THEIRS) == THEIRS
    consumer = THEIRS.replace("b7ad6b7169203331", "aaaaaaaaaaaaaaaa")
    assert copy_context().run(within, consumer, THEIRS) == consumer
