"""What routes are given: the orchestrator, the settings, what errors they declare."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.http.problem import OpenAIErrorBody, ProblemBody
from orchestrator.http_settings import HttpSettings
from orchestrator.orchestrator import AsyncOrchestrator


# Coroutines, all of them: FastAPI gives each plain function a thread.
async def _orchestrator(request: Request) -> AsyncOrchestrator:
    orchestrator: AsyncOrchestrator = request.app.state.orchestrator
    return orchestrator


def limits_of(request: Request) -> HttpSettings:
    """Return the service's settings."""
    settings: HttpSettings = request.app.state.http_settings
    return settings


Celeriac = Annotated[AsyncOrchestrator, Depends(_orchestrator)]

Responses = dict[int | str, dict[str, Any]]
ALWAYS = (401, 403, 413, 414, 415, 422, 503)
"""What any route may answer."""


def problems(*statuses: int) -> Responses:
    """Declare which errors a native route answers, for the OpenAPI document."""
    body = {"application/problem+json": {"schema": ProblemBody.model_json_schema()}}
    return {
        status: {"description": "Refused", "content": body}
        for status in sorted({*ALWAYS, *statuses})
    }


def openai_problems(*statuses: int) -> Responses:
    """Declare which errors a route below `/v1` answers."""
    return {
        status: {"description": "Refused", "model": OpenAIErrorBody}
        for status in sorted({400, *ALWAYS, *statuses} - {422})
    }
