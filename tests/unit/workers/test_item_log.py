"""Where items of an attempt stand that goes on after another one."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.events import EventType, TaskEvent
from workers.item_log import ItemLog
from workers.run_log import DetachedRunLog


class ShownLog(DetachedRunLog):
    """Has shown items, whose calls began in another order than they were asked."""

    async def events(self, after: int) -> tuple[TaskEvent, ...]:
        return tuple(
            TaskEvent(
                sequence=number,
                type=EventType.ITEM_ADDED,
                at=datetime.now(UTC),
                data={"output_index": index, "item": {"id": f"call-{index}"}},
            )
            for number, index in enumerate((0, 3, 2, 1))
            if number > after
        )


async def test_a_new_item_stands_behind_all_that_were_shown() -> None:
    items = ItemLog(ShownLog(), attempt=2)
    await items.load()
    assert items.place("msg-2", 1).index == 4
    assert items.find("call-2") is not None
