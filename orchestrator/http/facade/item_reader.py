"""Reads pages of a conversation's items, in either order."""

from __future__ import annotations

from conversations.json_value import size_of
from conversations.message import Role, StoredMessage
from conversations.service import ConversationService
from orchestrator.http.facade.conversation_items import (
    Place,
    items_of,
    place_of,
    results_after,
)
from orchestrator.http.facade.ids import owner_of
from orchestrator.http.facade.items import refuse
from orchestrator.http.facade.paging import ItemPage, Paging
from orchestrator.http.facade.shapes import Shape

READ_AT_ONCE = 100
READ_FIRST = 25
"""Nobody knows yet how large they are; a message may have 256 KiB."""
MOST_PAGE_BYTES = 4 * 1024 * 1024
"""A page of large items ends earlier than its limit says."""
MOST_RESULTS = 200
"""Tool messages after one message that are looked at for its calls' outputs."""


class ItemReader:
    """The items of one conversation."""

    def __init__(
        self, talks: ConversationService, conversation_id: str, *, tenant: str
    ) -> None:
        self._talks = talks
        self._id = conversation_id
        self._owner = owner_of(conversation_id)
        self._tenant = tenant

    async def page(self, paging: Paging) -> ItemPage:
        """Return the wanted items.

        Raises:
            Problem: `after` is no id of an item here.
            ConversationNotFound: none of this tenant has the id.
        """
        start = None
        if paging.after is not None:
            start = place_of(paging.after)
            if start is None or self._owner not in paging.after:
                raise refuse("after", "there is no item of this id")
        ascending = paging.order == "asc"
        wanted = paging.limit + 1
        found: list[Shape] = []
        cursor = start.seq if start else None
        first, size = True, 0
        while len(found) < wanted:
            messages = await self._read(cursor, ascending, inclusive=first, size=size)
            if not messages:
                break
            for shape, place in await self._shapes(messages, ascending):
                if start is None or (place > start if ascending else place < start):
                    if found and size > MOST_PAGE_BYTES:
                        return ItemPage.of(found[: paging.limit], has_more=True)
                    found.append(shape)
                    size += size_of(shape)
            edge = messages[-1] if ascending else messages[0]
            cursor, first = edge.seq, False
        return ItemPage.of(found[: paging.limit], has_more=len(found) > paging.limit)

    async def of_messages(self, messages: tuple[StoredMessage, ...]) -> list[Shape]:
        """Return the items of messages in order."""
        return [shape for shape, _ in await self._shapes(messages, ascending=True)]

    async def find(self, item_id: str) -> tuple[Shape, Place] | None:
        """Return one item with its place.

        Raises:
            MessageNotFound: its message is not there.
            ConversationNotFound: none of this tenant has the id.
        """
        place = place_of(item_id)
        if place is None:
            return None
        stored = await self._talks.get_message(self._id, place.seq, tenant=self._tenant)
        for shape, at in await self._shapes((stored,), ascending=True):
            if shape["id"] == item_id:
                return shape, at
        return None

    async def _read(
        self, cursor: int | None, ascending: bool, *, inclusive: bool, size: int
    ) -> tuple[StoredMessage, ...]:
        is_known_small = 0 < size < MOST_PAGE_BYTES // READ_AT_ONCE * READ_FIRST
        limit = READ_AT_ONCE if is_known_small else READ_FIRST
        if ascending:
            after = 0 if cursor is None else cursor - inclusive
            return await self._talks.get_messages(
                self._id, limit=limit, after=after, tenant=self._tenant
            )
        before = None if cursor is None else cursor + inclusive
        return await self._talks.get_messages(
            self._id, limit=limit, before=before, tenant=self._tenant
        )

    async def _shapes(
        self, messages: tuple[StoredMessage, ...], ascending: bool
    ) -> list[tuple[Shape, Place]]:
        beyond = await self._beyond(messages)
        found: list[tuple[Shape, Place]] = []
        for index, stored in enumerate(messages):
            results = results_after((*messages, *beyond), index)
            for shape in items_of(stored, self._owner, results):
                place = place_of(shape["id"])
                if place is not None:
                    found.append((shape, place))
        return found if ascending else found[::-1]

    async def _beyond(
        self, messages: tuple[StoredMessage, ...]
    ) -> tuple[StoredMessage, ...]:
        """Return what follows a part that may end between a call and its results."""
        last = messages[-1].message
        if not last.tool_calls and last.role is not Role.TOOL:
            return ()
        return await self._talks.get_messages(
            self._id, limit=MOST_RESULTS, after=messages[-1].seq, tenant=self._tenant
        )
