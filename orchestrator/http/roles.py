"""Which roles a client may write: it must not forge what others have said."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from starlette.requests import Request

from conversations.message import Message
from orchestrator.opening import check_roles as check_roles_of
from orchestrator.prompt import MESSAGES_FIELD, opening_of
from orchestrator.settings import Settings


def check_roles(opening: tuple[Message, ...], request: Request) -> None:
    """Refuse roles that `services.conversations.client_roles` does not list.

    Raises:
        RoleForbidden: names the role.
    """
    settings: Settings = request.app.state.settings
    roles = settings.services.conversations.client_roles
    check_roles_of(opening, roles, field="input")


def check_input(data: Mapping[str, JsonValue], request: Request) -> None:
    """Refuse such roles in the input of a task.

    Raises:
        RoleForbidden: names the role.
    """
    if MESSAGES_FIELD in data:
        check_roles(opening_of(data), request)
