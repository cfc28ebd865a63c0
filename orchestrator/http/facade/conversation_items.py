"""Stored messages as OpenAI's items, and back to their numbers. Pure.

A message gives one item, and one for each of its calls: `mcp_call` with its output
where a worker ran the tool, `function_call` where the client does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from conversations.client_calls import client_calls_of, is_client_result
from conversations.json_value import dumps
from conversations.message import Role, StoredMessage, ToolCall
from orchestrator.http.facade.shapes import (
    Shape,
    function_call_item,
    function_output_item,
    mcp_call_item,
    message_item,
)

_ID = re.compile(r"(msg|fc|mcp|fco)_([0-9a-f]+)_(\d{1,16})(?:_(\d{1,6}))?")


class Place(NamedTuple):
    """Where an item stands: its message's number, and its rank among its items."""

    seq: int
    rank: int


def place_of(item_id: str) -> Place | None:
    """Return an item's place; None for an id that no item here can have."""
    found = _ID.fullmatch(item_id)
    if found is None:
        return None
    rank = 0 if found[4] is None else int(found[4]) + 1
    return Place(int(found[3]), rank)


def items_of(
    stored: StoredMessage, owner: str, results: Mapping[str, StoredMessage]
) -> list[Shape]:
    """Return a message's items; `results` are the tool messages after it, by call."""
    message, name = stored.message, f"{owner}_{stored.seq}"
    if message.role is Role.TOOL:
        if not is_client_result(message):
            return []
        return [
            function_output_item(
                f"fco_{name}", message.tool_call_id or "", message.content
            )
        ]
    items = []
    if message.content or message.images:
        items.append(
            message_item(
                f"msg_{name}",
                message.content or None,
                role=message.role.value,
                images=message.images,
            )
        )
    mine = client_calls_of(message)
    for rank, call in enumerate(message.tool_calls):
        if call.id in mine:
            items.append(
                function_call_item(
                    f"fc_{name}_{rank}", call.id, call.name, dumps(call.arguments)
                )
            )
        else:
            items.append(_server_call(f"mcp_{name}_{rank}", call, results))
    return items


def _server_call(
    item_id: str, call: ToolCall, results: Mapping[str, StoredMessage]
) -> Shape:
    result = results.get(call.id)
    return mcp_call_item(
        item_id,
        call.name,
        dumps(call.arguments),
        output=result.message.content if result else None,
        status="completed" if result else "incomplete",
    )


def results_after(
    messages: Sequence[StoredMessage], index: int
) -> dict[str, StoredMessage]:
    """Return the tool messages that follow a message, by the call they answer."""
    found: dict[str, StoredMessage] = {}
    for stored in messages[index + 1 :]:
        if stored.message.role is not Role.TOOL:
            break
        found[stored.message.tool_call_id or ""] = stored
    return found
