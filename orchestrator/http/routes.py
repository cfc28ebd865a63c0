"""Every router of the service; they are tried in turn, so the busiest come first."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.http import agents, schedules, status, tasks
from orchestrator.http.facade import chat_completions, conversations, models, responses
from orchestrator.http.page import entrance
from orchestrator.http.page import routes as page

ROUTERS: tuple[APIRouter, ...] = (
    responses.router,
    tasks.router,
    status.router,
    conversations.router,
    chat_completions.router,
    models.router,
    agents.router,
    schedules.router,
    page.router,
    entrance.router,
)
