"""The `Idempotency-Key` header: a second submit with it returns the first task."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from orchestrator.http.problem import Problem

MAX_CHARACTERS = 255


async def read_key(
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key and request return the same task."),
    ] = None,
) -> str | None:
    """Return the key.

    Raises:
        Problem: it is empty, too long, or holds what no header should.
    """
    if idempotency_key is None:
        return None
    size = len(idempotency_key)
    if not idempotency_key.strip() or size > MAX_CHARACTERS:
        reason = f"must have 1 to {MAX_CHARACTERS} characters (got {size})"
    elif not idempotency_key.isprintable():
        reason = "must hold printable characters only"
    else:
        return idempotency_key
    raise Problem(
        400,
        "invalid_idempotency_key",
        f"Idempotency-Key {reason}",
        field="Idempotency-Key",
    )


IdempotencyKey = Annotated[str | None, Depends(read_key)]
