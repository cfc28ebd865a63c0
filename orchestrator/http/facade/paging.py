"""OpenAI's lists: newest first by default, after an item, up to a hundred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.http.facade.items import refuse
from orchestrator.http.facade.shapes import Shape


class Paging(BaseModel):
    """Which part of a list is wanted."""

    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = Field(default=None, max_length=512)


class ItemPage(BaseModel):
    """Some items."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    """The items."""
    first_id: str = ""
    """The id of the first, empty without any."""
    last_id: str = ""
    """The id of the last; `after` of the next page."""
    has_more: bool = False
    """Whether there is a next page."""

    @classmethod
    def of(cls, items: Sequence[Shape], *, has_more: bool) -> ItemPage:
        return cls(
            data=list(items),
            first_id=items[0]["id"] if items else "",
            last_id=items[-1]["id"] if items else "",
            has_more=has_more,
        )


def page_of(items: Sequence[Shape], paging: Paging) -> ItemPage:
    """Return the wanted part of a whole list, given oldest first.

    Raises:
        Problem: there is no item `after`.
    """
    ordered = list(items) if paging.order == "asc" else list(reversed(items))
    start = 0
    if paging.after is not None:
        ids = [item["id"] for item in ordered]
        if paging.after not in ids:
            raise refuse("after", "there is no item of this id")
        start = ids.index(paging.after) + 1
    chosen = ordered[start : start + paging.limit]
    return ItemPage.of(chosen, has_more=len(ordered) > start + paging.limit)
