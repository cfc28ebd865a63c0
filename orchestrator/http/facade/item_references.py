"""`item_reference` items of a request: an item that an earlier response has given.

Clients that keep a talk themselves send these for what is stored here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from conversations.json_value import size_of
from conversations.message import Message
from orchestrator.errors import InvalidInput, TaskNotFound
from orchestrator.http.auth import Caller
from orchestrator.http.facade.items import (
    ItemNames,
    messages_of,
    read_items,
    refuse,
)
from orchestrator.http.facade.response_object import echo_of, output_of
from orchestrator.http.facade.shapes import Shape
from orchestrator.http.problem import Problem
from orchestrator.orchestrator import AsyncOrchestrator

MOST_RESPONSES: Final = 256
"""Each is read for the request; who has more goes on with `previous_response_id`."""
_ITEM: Final = re.compile(r"(?:msg|mcp|fc)_([0-9a-f]{32})_.+", re.DOTALL)


async def messages_with_referred(
    celeriac: AsyncOrchestrator,
    given: str | list[dict[str, Any]],
    caller: Caller,
    *,
    most_bytes: int,
) -> tuple[Message, ...]:
    """Return the messages of an input, with what it refers to in its place.

    One that is referred to again stands where it did first: a call and its output are
    one item, which clients name for either.

    Raises:
        Problem: an item cannot be taken; or there is none of an id, they are of too
            many responses, or larger than a body that holds them itself may be.
    """
    if isinstance(given, str) or not any(map(_is_reference, given)):
        return messages_of(given)
    wanted = {str(item.get("id")) for item in given if _is_reference(item)}
    reader = _Outputs(celeriac, caller, wanted, most_bytes=most_bytes)
    found: list[tuple[ItemNames, object]] = []
    seen: set[str] = set()
    for index, item in enumerate(given):
        names = ItemNames(f"input[{index}]")
        if not _is_reference(item):
            found.append((names, item))
        elif (name := str(item.get("id"))) not in seen:
            seen.add(name)
            found.append((names, await reader.item(name, param=names.of("id"))))
    return read_items(found, param="input")


def _is_reference(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    if kind is None:
        return "id" in item and item.keys() <= {"id", "type"}
    return bool(kind == "item_reference")


class _Outputs:
    """The wanted items of responses, each of which is read once."""

    def __init__(
        self,
        celeriac: AsyncOrchestrator,
        caller: Caller,
        wanted: Collection[str],
        *,
        most_bytes: int,
    ) -> None:
        self._celeriac = celeriac
        self._tenant = caller.tenant
        self._wanted = wanted
        self._most_bytes = most_bytes
        self._bytes_left = most_bytes
        self._read: dict[str, dict[str, Shape]] = {}

    async def item(self, name: str, *, param: str) -> Shape:
        parsed = _ITEM.fullmatch(name)
        owner = parsed.group(1) if parsed else ""
        if owner and owner not in self._read:
            if len(self._read) >= MOST_RESPONSES:
                raise refuse(
                    param,
                    f"items of more than {MOST_RESPONSES} responses are not taken; go"
                    " on with previous_response_id or a conversation",
                )
            items = await self._items_of(f"task-{owner}")
            self._bytes_left -= size_of([*items.values()])
            if self._bytes_left < 0:
                raise Problem(
                    413,
                    "payload_too_large",
                    f"with this item those that are referred to exceed"
                    f" {self._most_bytes} bytes (http.max_body_bytes); refer to fewer,"
                    " or go on with previous_response_id or a conversation",
                    field=param,
                )
            self._read[owner] = items
        item = self._read.get(owner, {}).get(name)
        if item is None:
            raise Problem(
                404, "not_found", f"Item with id '{name[:160]}' not found.", field=param
            )
        return item

    async def _items_of(self, task_id: str) -> dict[str, Shape]:
        try:
            task = await self._celeriac.get(task_id, tenant=self._tenant)
        except (TaskNotFound, InvalidInput):
            return {}
        if echo_of(task).get("store") is False:
            return {}
        steps = await self._celeriac.steps(task.id, tenant=self._tenant)
        items = ((item["id"], item) for item in output_of(task, steps))
        return {name: item for name, item in items if name in self._wanted}
