"""The application: parts opened with its lifespan, limits, errors and routes wired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from conversations.errors import ConversationError
from orchestrator.errors import OrchestratorError
from orchestrator.http.admission import Admission
from orchestrator.http.auth import KeyRing
from orchestrator.http.limits import RequestLimits
from orchestrator.http.problem import Problem, answer_problem
from orchestrator.http.routes import ROUTERS
from orchestrator.http.waiting import ClientGone
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings, load_settings
from orchestrator.sweeper import Sweeper
from orchestrator.trace_context import HEADER, carry
from orchestrator.wiring import connect

DESCRIPTION = "Durable LLM agents on plain Celery and Redis, over HTTP."
CLIENT_CLOSED_REQUEST = 499
"""As nginx logs it; nobody reads the answer."""
FAREWELL_SECONDS = 5.0
"""For the last calls to the store, which gives up by itself before."""
METHOD_NOT_ALLOWED = 405
_ANSWERED = (
    Problem,
    OrchestratorError,
    ConversationError,
    RequestValidationError,
)


async def _nobody_listens(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer_framework(request: Request, error: Exception) -> Response:
    """Answer as any problem; of a method that is not taken say all that are.

    The framework names those of the first route of the path alone.
    """
    if isinstance(error, HTTPException) and error.status_code == METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(sorted(_methods_of(request.scope)))}
    return await answer_problem(request, error)


def _methods_of(scope: Scope) -> set[str]:
    routes = [route for router in ROUTERS for route in router.routes]
    return {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def _carry_trace(request: Request) -> None:
    """Let the tasks that a request submits belong to its caller's trace, if any."""
    carry(request.headers.get(HEADER))


@asynccontextmanager
async def _serving(
    app: FastAPI, settings: Settings, parts: OrchestratorParts
) -> AsyncIterator[None]:
    async with AsyncOrchestrator(settings, parts=parts) as orchestrator:
        app.state.orchestrator = orchestrator
        app.state.parts = parts
        sweeper = Sweeper(
            parts.store, parts.queue, takes_tasks=parts.agent_manager_enabled
        )
        sweeping = asyncio.create_task(sweeper.run())
        try:
            yield
        finally:
            answering: set[asyncio.Task[Any]] = app.state.answering
            if answering:  # cut off, and about to cancel runs that nobody can read
                await asyncio.wait(answering, timeout=FAREWELL_SECONDS)
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping


def create_app(
    settings: Settings | None = None, *, parts: OrchestratorParts | None = None
) -> FastAPI:
    """Return the application.

    Args:
        settings: The configuration; None reads it (`load_settings`).
        parts: Ready-made stores and queue, instead of those of the settings.
    """
    settings = settings or load_settings()
    app = FastAPI(
        title="Celeriac",
        version=version("celeriac"),
        description=DESCRIPTION,
        lifespan=lambda app: _serving(app, settings, parts or connect(settings)),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a route of ours that needs a key
        redirect_slashes=False,
        dependencies=[Depends(_carry_trace)],
    )
    app.state.settings = settings
    app.state.http_settings = settings.http
    app.state.admission = Admission(settings.http)
    app.state.keys = KeyRing(settings.http.keys, tenant=settings.tenant)
    for error in _ANSWERED:
        app.add_exception_handler(error, answer_problem)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(ClientGone, _nobody_listens)
    for router in ROUTERS:
        app.include_router(router)
    origins = settings.http.cors_origins
    more: dict[str, Any] = {"wrap": _cors(origins)} if origins else {}
    app.state.answering = set()
    app.add_middleware(
        RequestLimits, settings=settings.http, answering=app.state.answering, **more
    )
    return app


def _cors(origins: Sequence[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Return what lets pages of other origins read an answer, refused or not."""
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Location", "Retry-After", "X-Request-Id", "X-Should-Retry"],
    )
