"""Asks the model endpoint how it is, through the probe's process."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.cli.processes import probe_command, start, stop

PROBE_SECONDS = 20.0
"""Its own limit is three seconds; the rest is for starting it on a busy machine."""
ASK_SECONDS = 120.0
"""For one completion of a model that may have to be loaded first."""


class EndpointReport(BaseModel):
    """What the probe says, as far as the command line needs it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    base_url: str = ""
    model: str = ""
    usable: bool = False
    is_double: bool = False
    remedy: str = ""
    context_tokens: int | None = None
    parallel: int | None = None
    tools: bool | None = None
    advice: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.base_url:
            return "not asked"
        facts = [f"{self.base_url}, model {self.model}"]
        if self.context_tokens:
            facts.append(f"context {self.context_tokens} tokens")
        if self.parallel:
            facts.append(f"{self.parallel} at once")
        if self.tools:
            facts.append("calls tools")
        return ", ".join(facts)


async def ask_endpoint(
    environment: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    try_tools: bool = False,
) -> EndpointReport:
    """Run the probe; an endpoint that does not answer is a report, not an error.

    Args:
        environment: Variables of the probe's process, beside our own.
        name: One of `llm.endpoints`; None takes the default one.
        try_tools: Have the model call a tool, which costs one completion.
    """
    options = ["--endpoint", name] if name else []
    options += ["--ask"] if try_tools else []
    process = await start(probe_command(*options), environment or {}, errors=PIPE)
    limit = ASK_SECONDS if try_tools else PROBE_SECONDS
    try:
        async with asyncio.timeout(limit):
            output, errors = await process.communicate()
    except TimeoutError:
        return EndpointReport(remedy="the probe took too long; check llm.base_url")
    finally:
        await stop(process, grace_seconds=1)
    try:
        return EndpointReport.model_validate_json(output)
    except ValidationError:
        remedy = "the probe failed; run: python -m workers.llm.probe"
        if process.returncode == os.EX_CONFIG:  # in words, as it asked nobody
            remedy = errors.decode(errors="replace").strip()
        return EndpointReport(remedy=remedy)
