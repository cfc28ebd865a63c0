"""How what is over refuses to be used further: an agent's run, a tool's call."""

from __future__ import annotations

import asyncio
from typing import NoReturn

REFUSAL_SECONDS = 0.1
"""How long it takes: who asks again and again, deaf to cancels, keeps no loop busy."""


async def refused(what: str) -> NoReturn:
    """Refuse as a cancel does.

    Raises:
        CancelledError: always.
    """
    await asyncio.sleep(REFUSAL_SECONDS)
    raise asyncio.CancelledError(f"{what} is over")
