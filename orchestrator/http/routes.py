"""Every router of the service, in the order of the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.http import agents, status

ROUTERS: tuple[APIRouter, ...] = (agents.router, status.router)
