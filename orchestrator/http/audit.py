"""One log line for each request that may change something: who asked what, the answer.

What was sent is in no line. The store has the rest: `celeriac.submitted_by` in a task's
metadata, decisions in its events, each tool call with its arguments in its journal.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import Scope

from orchestrator.http.auth import Caller

logger = logging.getLogger(__name__)

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_CHARACTERS: Final = 300


def note(scope: Scope, *, status: int, request_id: str) -> None:
    """Write the line of an answered request."""
    if scope["method"] in _SAFE:
        return
    caller: Caller | None = scope.get("state", {}).get("caller")
    logger.info(
        "request answered",
        extra={
            "action": "audit",
            "method": scope["method"],
            "path": scope["path"][:_MOST_CHARACTERS],
            "status": status,
            "caller": caller.name if caller else None,
            "tenant": caller.tenant if caller else None,
            "client": (scope.get("client") or (None,))[0],
            "request_id": request_id,
        },
    )
