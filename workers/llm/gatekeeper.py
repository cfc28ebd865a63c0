"""Takes a process's calls through the gates before their models.

A short wait is spent here, in the run's slot; for a long one `GateClosed` is raised and
the slot goes to others. An endpoint without limits costs no round trip until it has
shown trouble; then its gate is asked too for a while, so that the fleet shares what
one worker has learned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic

from orchestrator.dues import Admitted
from orchestrator.errors import StoreUnavailable
from orchestrator.gate import (
    LONGEST_WAIT_SECONDS,
    RENEW_SECONDS,
    CallOutcome,
    Departure,
    Gate,
    Permit,
    Wait,
)
from workers.errors import GateClosed, LLMError, LLMUnavailable, RateLimited
from workers.insistence import STORE_PATIENCE_SECONDS, Insistence
from workers.llm.endpoints import ServedEndpoint

logger = logging.getLogger(__name__)

PARK_AFTER_SECONDS = 3.0
"""Of waiting in the slot, before it is given to others."""
WATCHED_SECONDS = 60.0
"""After trouble, the gate of an endpoint without limits is asked for so long."""
_LISTEN_AGAIN_SECONDS = 1.0
_TROUBLE = frozenset({CallOutcome.REFUSED, CallOutcome.UNAVAILABLE})


Ask = Callable[[], Awaitable[Admitted | Wait]]
"""Asks once whether a call may begin; safe to repeat."""


class Gatekeeper:
    """All calls of one process, on one event loop."""

    def __init__(
        self,
        gate: Gate,
        *,
        park_after_seconds: float = PARK_AFTER_SECONDS,
        patience_seconds: float = STORE_PATIENCE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._gate = gate
        self._renew_seconds = renew_seconds
        self._insist = Insistence(patience_seconds=patience_seconds)
        self._park_after = park_after_seconds
        self._held: set[Permit] = set()
        self._renewal: asyncio.Task[None] | None = None
        self._watched_until: dict[str, float] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    def is_open(self, endpoint: ServedEndpoint, gate: str) -> bool:
        """Whether a gate need not be asked."""
        if endpoint.limits.are_set:
            return False
        return self._watched_until.get(gate, 0.0) <= monotonic()

    async def enter(
        self,
        endpoint: ServedEndpoint,
        ask: Ask,
        *,
        token: str,
        may_park: bool,
    ) -> tuple[Admitted, float]:
        """Wait until a call may begin that a gate or a budget stands before.

        Returns what it holds, and how many seconds it waited. Whoever is raised at asks
        no more, and takes back what may be on its way.

        Args:
            endpoint: What it is for.
            ask: Asks for it.
            token: By which the gate calls it, if it waits.
            may_park: Whether its slot may be given to others.

        Raises:
            GateClosed: the wait is long; come back later.
            LLMUnavailable: the endpoint is down, and is not to be waited for.
            RateLimited: it has refused everything for longer than is waited.
            StoreUnavailable: the store refuses, for longer than the patience.
        """
        answer = await self._insist(ask)
        waited = 0.0
        if isinstance(answer, Wait):
            began = monotonic()
            while isinstance(answer, Wait):
                parks_at = began + self._park_after if may_park else inf
                await self._wait(endpoint, answer, token=token, parks_at=parks_at)
                answer = await self._insist(ask)
            waited = monotonic() - began
        if answer.permit is not None:
            self._held.add(answer.permit)
            if self._renewal is None:
                self._renewal = asyncio.create_task(self._renew())
        return answer, waited

    async def _wait(
        self, endpoint: ServedEndpoint, wait: Wait, *, token: str, parks_at: float
    ) -> None:
        """Wait in the slot until it is time to ask again.

        Raises:
            GateClosed, LLMUnavailable, RateLimited: it is not waited for here.
        """
        if (error := _given_up(endpoint, wait)) is not None:
            try:
                raise error
            finally:
                del error  # a frame that holds what it raises keeps all of them alive
        if monotonic() + wait.seconds > parks_at:
            raise _parked(endpoint, wait)
        await self._pause(token, wait.seconds)

    async def leave(
        self, gate: str, permit: Permit | None, departure: Departure
    ) -> None:
        """Note how a call ended; its permit is given back with its other dues."""
        if permit is not None:
            self._held.discard(permit)
        if departure.outcome in _TROUBLE:
            wait = min(departure.wait_seconds or 0.0, LONGEST_WAIT_SECONDS)
            self._watched_until[gate] = monotonic() + WATCHED_SECONDS + wait
            if permit is None:
                report = partial(self._gate.report, gate, departure)
                await self._insist.see_to(report)

    async def aclose(self) -> None:
        """Stop renewing; what is held runs out."""
        await self._insist.settle()
        for task in (self._renewal, self._listening):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _renew(self) -> None:
        """Renew what is held, until nothing is."""
        try:
            await asyncio.sleep(self._renew_seconds)
            while self._held:
                try:
                    await self._gate.renew(tuple(self._held))
                except StoreUnavailable:
                    logger.warning("permits not renewed; trying again")
                except Exception:
                    logger.warning("permits not renewed; trying again", exc_info=True)
                await asyncio.sleep(self._renew_seconds)
        finally:
            self._renewal = None

    async def _pause(self, token: str, seconds: float) -> None:
        """Wait, or until it may be this waiter's turn."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        turn = self._waiters[token] = asyncio.get_running_loop().create_future()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await turn
        finally:
            del self._waiters[token]

    async def _listen(self) -> None:
        """Hear whose turn it is; whatever goes wrong, who waits asks by itself."""
        while True:
            try:
                await self._gate.listen(self._told)
            except StoreUnavailable:
                logger.warning("turns at the gate are not heard; trying again")
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    def _told(self, token: str) -> None:
        turn = self._waiters.get(token)
        if turn is not None and not turn.done():
            turn.set_result(None)


def _parked(endpoint: ServedEndpoint, wait: Wait) -> GateClosed:
    return GateClosed(
        f"waits for endpoint {endpoint.name} ({wait.reason.replace('_', ' ')})",
        seconds=wait.park_seconds,
    )


def _given_up(endpoint: ServedEndpoint, wait: Wait) -> LLMError | None:
    """Return the error of a wait that is not to be waited for."""
    error = _reason_to_give_up(endpoint, wait)
    if error is not None:
        error.was_asked = False
    return error


def _reason_to_give_up(endpoint: ServedEndpoint, wait: Wait) -> LLMError | None:
    where, seconds = endpoint.base_url, wait.closed_seconds
    if wait.reason == "unavailable" and endpoint.when_unavailable == "fail":
        return LLMUnavailable(
            f"{where} has failed for {seconds:.0f} s and is only probed; check its log"
            " or set when_unavailable: wait",
            endpoint=where,
        )
    if seconds <= endpoint.max_wait_seconds:
        return None
    if wait.reason == "unavailable":
        return LLMUnavailable(
            f"{where} has been down for {seconds:.0f} s, longer than max_wait",
            endpoint=where,
        )
    return RateLimited(
        f"{where} has refused every call for {seconds:.0f} s, longer than max_wait;"
        " lower limits or raise max_wait",
        endpoint=where,
        status=None,
    )
