"""The W3C trace context that a task carries from its submit to the endpoint.

Begins no span: where OpenTelemetry is used, its current span is taken and made the
parent of what a run does. It is not imported here: who has a span has done so.
"""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any, Final

HEADER: Final = "traceparent"
_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}"
)
_carried: ContextVar[str | None] = ContextVar("celeriac_traceparent", default=None)


def is_traceparent(text: str) -> bool:
    """Whether a text is a trace context that can be passed on (W3C, version 00)."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return False
    version, trace_id, span_id = found.groups()
    return version != "ff" and _is_set(trace_id) and _is_set(span_id)


def present_traceparent() -> str | None:
    """Return the trace context of what is being done here; None where there is none.

    That of OpenTelemetry's current span, else the one that was carried here.
    """
    otel = _opentelemetry()
    span = otel.get_current_span().get_span_context() if otel else None
    if span is None or not span.is_valid:
        return _carried.get()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


def carry(traceparent: str | None) -> None:
    """Let what this asyncio task or thread does from now on belong to a trace, or none.

    A span of OpenTelemetry that belongs to the trace stays the current one.
    """
    if traceparent is not None and not is_traceparent(traceparent):
        traceparent = None
    _carried.set(traceparent)
    otel = _opentelemetry()
    if traceparent is None or otel is None:
        return
    _, trace_id, span_id, flags = traceparent.split("-")
    if otel.get_current_span().get_span_context().trace_id == int(trace_id, 16):
        return
    parent = otel.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(int(flags, 16)),
    )
    context = otel.set_span_in_context(otel.NonRecordingSpan(parent))
    sys.modules["opentelemetry.context"].attach(context)


def _is_set(number: str) -> bool:
    return number.strip("0") != ""


def _opentelemetry() -> Any:
    return sys.modules.get("opentelemetry.trace")
