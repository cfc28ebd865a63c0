"""What `celeriac up` tells once all stands: who serves, which model is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from orchestrator.cli.connection import open_orchestrator
from orchestrator.cli.endpoint_report import ask_endpoint
from orchestrator.cli.output import echo_if_heard
from orchestrator.errors import StoreUnavailable
from orchestrator.plain_text import plain
from orchestrator.settings import Settings

_LOOK_SECONDS = 0.25


async def tell_endpoint(environment: Mapping[str, str]) -> None:
    """Say whether the endpoint can be asked; tasks may be sent in any case."""
    report = await ask_endpoint(environment)
    if report.usable:
        echo_if_heard(plain(f"up       | endpoint: {report}"))
        return
    echo_if_heard(
        plain(
            f"up       | WARNING: tasks will fail: {report.remedy};"
            " or start with --scripted, which calls no model"
        )
    )


async def tell_ready(settings: Settings, *, workers: int) -> None:
    """Say when so many workers take tasks, and how to send one."""
    async with open_orchestrator(settings) as orchestrator:
        while True:
            try:
                live = await orchestrator.workers()
                served = [
                    a.name for a in await orchestrator.agents() if a.health.served
                ]
            except StoreUnavailable:
                live, served = (), []
            if len(live) >= workers and served:
                break
            await asyncio.sleep(_LOOK_SECONDS)
    echo_if_heard(
        plain(
            f"up       | ready: {', '.join(served)}; try:"
            f' celeriac submit {served[0]} "What can you do?"'
        )
    )
