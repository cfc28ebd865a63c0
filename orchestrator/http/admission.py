"""How much one tenant may bring: what is beyond it is answered 429 and stores nothing.

Each replica counts for itself between two looks into the store, so the bound on
unfinished tasks may be passed by what all of them take within a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final

from fastapi import Request

from orchestrator.http.auth import Caller
from orchestrator.http.problem import Problem
from orchestrator.http_settings import HttpSettings
from orchestrator.orchestrator import AsyncOrchestrator

LOOK_SECONDS: Final = 1.0
"""A count of unfinished tasks is believed for so long."""
FULL_RETRY_SECONDS: Final = 2
"""When a tenant whose tasks are too many may ask again."""
_MINUTE: Final = 60


class Admission:
    """Counts what each tenant submits."""

    def __init__(
        self, settings: HttpSettings, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Count by the settings' bounds; `clock` tells seconds that only rise."""
        self._clock = clock
        self._most_unfinished = settings.max_unfinished
        self._most_a_minute = settings.max_submits_per_minute
        self._minute = 0
        self._submits: Counter[str] = Counter()
        self._unfinished: dict[str, tuple[float, int]] = {}

    async def admit(self, celeriac: AsyncOrchestrator, tenant: str) -> None:
        """Count a submit.

        Raises:
            Problem: 429; the tenant has submitted too fast, or has too many tasks.
        """
        now = self._clock()
        if self._most_a_minute is not None:
            self._check_rate(tenant, now, self._most_a_minute)
        until, count = self._unfinished.get(tenant, (0.0, 0))
        if now >= until:
            count = await celeriac.unfinished(tenant=tenant)
            until = now + LOOK_SECONDS
        if count >= self._most_unfinished:
            self._unfinished[tenant] = until, count
            raise _refusal(
                "too_many_tasks",
                f"the tenant has {count} unfinished tasks and may have"
                f" {self._most_unfinished}; wait for some to end, or cancel some",
                seconds=FULL_RETRY_SECONDS,
            )
        self._unfinished[tenant] = until, count + 1

    def _check_rate(self, tenant: str, now: float, most: int) -> None:
        minute, seconds = divmod(now, _MINUTE)
        if int(minute) != self._minute:
            self._minute = int(minute)
            self._submits.clear()
        if self._submits[tenant] >= most:
            raise _refusal(
                "rate_limit_exceeded",
                f"the tenant may submit {most} tasks a minute here; send them later",
                seconds=ceil(_MINUTE - seconds),
            )
        self._submits[tenant] += 1


def _refusal(code: str, detail: str, *, seconds: int) -> Problem:
    return Problem(429, code, detail, headers={"Retry-After": str(seconds)})


async def admit(request: Request, celeriac: AsyncOrchestrator, caller: Caller) -> None:
    """Count a submit of a caller.

    Raises:
        Problem: 429; see `Admission`.
    """
    admission: Admission = request.app.state.admission
    await admission.admit(celeriac, caller.tenant)
