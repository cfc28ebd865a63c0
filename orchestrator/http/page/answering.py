"""How the page's routes answer what goes wrong: as HTML, without a key by a login."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from orchestrator.errors import InvalidInput
from orchestrator.http.page.rendering import HEADERS, render
from orchestrator.http.problem import problem_of

logger = logging.getLogger(__name__)

PART_HEADER = "x-part"
_UNAUTHORIZED = 401
_SERVER_ERROR = 500
_MOST_FIELDS = 20


class PageRoute(APIRoute):
    """A route whose errors are pages; whoever is unknown is sent to the login."""

    def get_route_handler(
        self,
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientDisconnect:
                raise
            except Exception as exc:
                problem = problem_of(exc)
                if problem.status == _SERVER_ERROR:
                    logger.exception("page failed", extra={"path": request.url.path})
                if problem.status != _UNAUTHORIZED:
                    return render(
                        request, "error.html", status=problem.status, problem=problem
                    )
                return _to_login(request)

        return answer


def _to_login(request: Request) -> Response:
    if PART_HEADER in request.headers:
        return Response(status_code=_UNAUTHORIZED, headers=HEADERS)
    here = request.url.path if request.method == "GET" else "/"
    return to(f"/ui/login?next={quote(here, safe='/')}")


def to(url: str) -> RedirectResponse:
    """Send the browser to another page of ours."""
    return RedirectResponse(url, status_code=303, headers=HEADERS)


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a plain form.

    Raises:
        InvalidInput: it has more than any form here.
    """
    text = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        reason = f"more than {_MOST_FIELDS} fields; send those of the page's form"
        raise InvalidInput("", reason) from None
    return {name: values[-1] for name, values in fields.items()}
