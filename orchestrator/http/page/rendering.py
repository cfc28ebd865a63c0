"""How values become HTML: one environment that escapes all, and what it may call.

Whatever a model, a tool or a user wrote is hostile: it is escaped, its control and
direction characters are written out, and the policy lets no script but ours run.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.http.auth import LOCAL, Caller
from orchestrator.http_settings import HttpSettings, Scope

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    # A form that is sent with no-referrer has no origin by which to know it.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SHOWN_CHARACTERS: Final = 20_000
"""Of one text; the API has it whole."""
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2028\u2029"
    "\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_MICROS: Final = 1_000_000
_NOTHING: Final = "\N{EN DASH}"
_KILO: Final = 1000


def shown(value: object, limit: int = SHOWN_CHARACTERS) -> str:
    """Text that looks like what it is: no hidden characters, no turned direction."""
    text = str(value).replace("\r\n", "\n")
    rest = len(text) - limit
    if rest > 0:
        text = text[:limit]
    text = _INVISIBLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return f"{text}… ({rest:,} more characters)" if rest > 0 else text


def one_line(value: object, limit: int = 140) -> str:
    """Text on one line, cut to a length."""
    text = shown(" ".join(str(value)[: 4 * limit].split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def seconds(value: float | None) -> str:
    """A duration as people read it."""
    if value is None:
        return _NOTHING
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def ago(instant: datetime | None) -> str:
    """How long ago something was."""
    if instant is None:
        return "never"
    passed = (datetime.now(UTC) - instant).total_seconds()
    if passed < 1:
        return "just now"
    return f"{passed:.0f} s ago" if passed < 60 else f"{seconds(passed)} ago"


def clock(instant: datetime | None) -> str:
    """An instant for people, in UTC."""
    return (
        _NOTHING
        if instant is None
        else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def iso(instant: datetime | None) -> str:
    """An instant for programs."""
    return "" if instant is None else instant.astimezone(UTC).isoformat()


def amount(value: int) -> str:
    """A number, shortened."""
    if value < 10 * _KILO:
        return f"{value:,}"
    return f"{value / _KILO:.1f}k" if value < _MICROS else f"{value / _MICROS:.1f}M"


def money(micros: int) -> str:
    """Millionths of money."""
    return f"{micros / _MICROS:.4f}"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("orchestrator.http.page", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def json_text(value: Any) -> str:
    """JSON for people to read."""
    return json.dumps(value, ensure_ascii=False, indent=2)


_ENVIRONMENT.filters.update(
    tojson_text=json_text,
    shown=shown,
    one_line=one_line,
    seconds=seconds,
    ago=ago,
    clock=clock,
    iso=iso,
    amount=amount,
    money=money,
    query=urlencode,
)


def render(
    request: Request, template: str, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """Return a page."""
    caller: Caller | None = values.get("caller")
    settings: HttpSettings = request.app.state.http_settings
    text = _ENVIRONMENT.get_template(template).render(
        **{"caller": None, **values},
        may={scope.value for scope in Scope if caller and allows(caller, scope)},
        logged_in=caller is not None and caller.name != LOCAL,
        flower_url=settings.flower_url,
        path=request.url.path,
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def allows(caller: Caller, scope: Scope) -> bool:
    """Whether a caller may do what a scope names."""
    if scope is Scope.OPERATE:
        return scope in caller.scopes
    return scope in caller.scopes or caller.is_admin
