"""Asks the model endpoint how it is, through the probe's process."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.cli.processes import probe_command, start, stop

PROBE_SECONDS = 20.0
"""Its own limit is three seconds; the rest is for starting it on a busy machine."""


class EndpointReport(BaseModel):
    """What the probe says, as far as the command line needs it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    base_url: str = ""
    model: str = ""
    usable: bool = False
    is_double: bool = False
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.base_url}, model {self.model}"


async def ask_endpoint(environment: Mapping[str, str] | None = None) -> EndpointReport:
    """Run the probe; an endpoint that does not answer is a report, not an error."""
    process = await start(probe_command(), environment or {}, errors=DEVNULL)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PROBE_SECONDS)
        return EndpointReport.model_validate_json(output)
    except TimeoutError:
        return EndpointReport(remedy="the probe took too long; check llm.base_url")
    except ValidationError:
        return EndpointReport(
            remedy="the probe failed; run: python -m workers.llm.probe"
        )
    finally:
        await stop(process, grace_seconds=1)
