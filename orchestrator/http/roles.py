"""Which roles a client may write: it must not forge what others have said."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from starlette.requests import Request

from conversations.errors import RoleForbidden
from conversations.message import Message, Role
from orchestrator.prompt import MESSAGES_FIELD, opening_of
from orchestrator.settings import Settings


def check_roles(opening: tuple[Message, ...], request: Request) -> None:
    """Refuse roles that `services.conversations.client_roles` does not list.

    Outputs of the client's own calls are its to write.

    Raises:
        RoleForbidden: names the role.
    """
    settings: Settings = request.app.state.settings
    allowed = settings.services.conversations.client_roles
    for index, message in enumerate(opening):
        if message.role is not Role.TOOL and message.role not in allowed:
            raise RoleForbidden(f"input[{index}]", message.role.value, allowed)


def check_input(data: Mapping[str, JsonValue], request: Request) -> None:
    """Refuse such roles in the input of a task.

    Raises:
        RoleForbidden: names the role.
    """
    if MESSAGES_FIELD in data:
        check_roles(opening_of(data), request)
