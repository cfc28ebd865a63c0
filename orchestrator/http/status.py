"""Liveness, readiness, state of the system, metrics, description; changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry
from pydantic import BaseModel

from orchestrator.http.auth import Caller, Reader, authenticate
from orchestrator.http.dependencies import Celeriac, problems
from orchestrator.http.exposition import FiguresCollector
from orchestrator.http_settings import Scope
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.overview import Overview
from orchestrator.readiness import Readiness

router = APIRouter(tags=["status"])


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Health:
    """Tell that the process lives; asks nothing of Redis and needs no key."""
    return Health()


@router.get("/openapi.json", include_in_schema=False)
async def document(
    request: Request,
    _caller: Annotated[Caller, Depends(authenticate)],
) -> JSONResponse:
    """Describe the service; any key will do."""
    app: FastAPI = request.app
    return JSONResponse(app.openapi())


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses={
        **problems(),
        503: {"model": Readiness, "description": "A task would not be taken now"},
    },
)
async def readyz(caller: Reader, celeriac: Celeriac) -> Readiness:  # noqa: ARG001
    """Tell whether a task submitted now would be taken, part by part."""
    readiness = await celeriac.readiness()
    if not readiness.ready:
        return JSONResponse(readiness.model_dump(mode="json"), 503)  # type: ignore[return-value]
    return readiness


@router.get("/status", responses=problems())
async def status(caller: Reader, celeriac: Celeriac) -> Overview:
    """Tell how things stand for the tenant; with scope `operate` for all of it."""
    return await celeriac.overview(tenant=caller.tenant, fleet=operates(caller))


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **problems(),
        200: {
            "description": "Prometheus text, or OpenMetrics where it is accepted",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
async def metrics(request: Request, caller: Reader, celeriac: Celeriac) -> Response:
    """Return the tenant's metrics; with scope `operate` those of all and the fleet."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(await _collected(celeriac, caller))
    encode, media_type = _encoder(request.headers.get("accept", ""))
    # Seconds for a thousand agents or many tenants, which all others would wait for.
    text = await asyncio.to_thread(encode, registry)
    return Response(text, headers={"Content-Type": media_type})


async def _collected(celeriac: AsyncOrchestrator, caller: Caller) -> FiguresCollector:
    if not operates(caller):
        figures = await celeriac.figures(tenant=caller.tenant)
        return FiguresCollector({caller.tenant: figures}, None)
    tenants = sorted({caller.tenant, *await celeriac.tenants()})
    figures_of = {name: await celeriac.figures(tenant=name) for name in tenants}
    return FiguresCollector(figures_of, await celeriac.overview(tenant=caller.tenant))


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Return how the metrics are written; a header that cannot be read asks nothing."""
    try:
        return choose_encoder(accept)
    except (IndexError, TypeError, ValueError):
        return choose_encoder("")


def operates(caller: Caller) -> bool:
    """Whether the figures of all tenants are the caller's business."""
    return Scope.OPERATE in caller.scopes
