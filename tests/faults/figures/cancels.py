"""How long a cancel takes: to its confirmation, and to the end of the model's call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from conversations.json_value import JsonObject
from orchestrator import TaskStatus
from tests.faults.figures.report import fresh_fleet, say, spread
from tests.faults.scripted_model import CountingModel
from workers.llm.double import HttpReply

AT_ONCE = 50


@dataclass
class HangingModel(CountingModel):
    """Answers no request; notes when each was given up."""

    closed: dict[str, float] = field(default_factory=dict)

    def __call__(self, body: JsonObject) -> HttpReply:  # type: ignore[override]
        super().__call__(body)
        return self._hang(self.requests[-1].label)  # type: ignore[return-value]

    async def _hang(self, label: str) -> HttpReply:
        try:
            await asyncio.Event().wait()
        finally:
            self.closed[label] = time.monotonic()
        raise AssertionError


async def measure(tasks: int) -> None:
    model = HangingModel()
    confirmed: list[float] = []
    closed: list[float] = []
    async with fresh_fleet(model=model) as fleet:
        await fleet.start_worker(slots=AT_ONCE)
        for start in range(0, tasks, AT_ONCE):
            labels = [f"c{n}" for n in range(start, min(start + AT_ONCE, tasks))]
            handles = {label: await fleet.submit(label) for label in labels}
            await fleet.until(
                lambda wanted=set(labels): (
                    wanted <= {request.label for request in model.requests}
                ),
                60,
            )
            for label, handle in handles.items():
                asked = time.monotonic()
                await handle.cancel()
                async for _ in handle.events():
                    pass
                confirmed.append(time.monotonic() - asked)
                await fleet.until(lambda name=label: name in model.closed)
                closed.append(max(0.0, model.closed[label] - asked))
                assert (await handle.get()).status is TaskStatus.CANCELLED
    say(f"cancel of a running task, to its confirmation: {spread(confirmed)}")
    say(f"cancel of a running task, to the close of its connection: {spread(closed)}")
