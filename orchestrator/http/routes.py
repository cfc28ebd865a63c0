"""Every router of the service, in the order of the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.http import agents, schedules, status, tasks
from orchestrator.http.facade import chat_completions, conversations, models, responses
from orchestrator.http.page import entrance
from orchestrator.http.page import routes as page

ROUTERS: tuple[APIRouter, ...] = (
    tasks.router,
    agents.router,
    schedules.router,
    responses.router,
    conversations.router,
    chat_completions.router,
    models.router,
    status.router,
    page.router,
    entrance.router,
)
