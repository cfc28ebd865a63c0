"""What the page serves to everybody: the login and the files that it looks like.

They tell nothing of what is stored. The key that is given stays in a cookie that no
script can read and that no other site's page can have sent.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from orchestrator.http.auth import KEY_COOKIE, KeyRing, check_sender
from orchestrator.http.page.answering import PageRoute, form_of, to
from orchestrator.http.page.rendering import HEADERS, allows, render
from orchestrator.http.problem import Problem
from orchestrator.http_settings import HttpSettings, Scope

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LOGIN_SECONDS: Final = 12 * 3600
_TYPES: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_FILES: Final = {
    name: files("orchestrator.http.page").joinpath("static", name).read_bytes()
    for name in _TYPES
}


@router.get("/ui/static/{name}")
async def static(name: str) -> Response:
    """Serve one of the page's own files."""
    if name not in _FILES:
        raise Problem(404, "not_found", "there is nothing at this path")
    headers = HEADERS | {"Cache-Control": "public, max-age=300"}
    return Response(_FILES[name], media_type=_TYPES[name], headers=headers)


@router.get("/ui/login")
async def login_page(
    request: Request,
    next: Annotated[str, Query(max_length=2000)] = "/",  # noqa: A002
) -> Response:
    """Ask for a key."""
    return render(request, "login.html", next=_own_path(next), refused=False)


@router.post("/ui/login")
async def login(request: Request) -> Response:
    """Keep a key that may read, in a cookie."""
    check_sender(request)
    form = await form_of(request)
    keys: KeyRing = request.app.state.keys
    key, wanted = form.get("key", "").strip(), _own_path(form.get("next", "/"))
    caller = keys.find(key)
    if caller is None or not allows(caller, Scope.READ):
        return render(request, "login.html", status=401, next=wanted, refused=True)
    settings: HttpSettings = request.app.state.http_settings
    answer = to(wanted)
    answer.set_cookie(
        KEY_COOKIE,
        key,
        max_age=LOGIN_SECONDS,
        httponly=True,
        samesite="strict",
        secure=settings.behind_proxy or settings.scheme == "https",
    )
    return answer


@router.post("/ui/logout")
async def logout(request: Request) -> Response:
    """Forget the key."""
    check_sender(request)
    answer = to("/ui/login")
    answer.delete_cookie(KEY_COOKIE, httponly=True, samesite="strict")
    return answer


def _own_path(path: str) -> str:
    """A path of ours; whatever else a link has put there leads home."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and path[1:2] != "/" else "/"
