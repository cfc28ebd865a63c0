"""P23: workers of this release and of the next on one Redis."""

from __future__ import annotations

import pytest

from orchestrator import TaskFilter
from orchestrator.errors import UnreadableRecord
from tests.faults.fleet import Fleet

pytestmark = pytest.mark.timeout(60)


async def test_a_record_of_an_unknown_schema_stays_queued_and_untouched(
    fleet: Fleet,
) -> None:
    await fleet.submit("theirs", expires=1)
    await fleet.submit("ours")
    key = f"celeriac:default:task:{fleet.accepted['theirs']}"
    with fleet.server.client() as client:
        client.hset(key, "schema", "2")
        before = client.hgetall(key)
        worker = await fleet.start_worker("--pool", "threads")
        theirs = fleet.accepted.pop("theirs")
        await fleet.all_ended(20)
        await fleet.until(lambda: f"{theirs}] ignored" in worker.text(), 20)
        after = client.hgetall(key)
        assert {**after, "rings": ""} == {**before, "rings": ""}
        client.hset(key, "schema", "1")
    fleet.accepted["theirs"] = theirs
    await fleet.all_ended(25)
    assert worker.process.poll() is None


@pytest.mark.slow
async def test_a_record_that_cannot_be_read_spoils_no_listing_and_no_sweep(
    fleet: Fleet,
) -> None:
    await fleet.submit("theirs")
    await fleet.submit("ours")
    key = f"celeriac:default:task:{fleet.accepted.pop('theirs')}"
    with fleet.server.client() as client:
        client.hset(key, mapping={"schema": "2", "status": "dreaming"})
    page = await fleet.celeriac.list(TaskFilter())
    assert [task.id for task in page.tasks] == [fleet.accepted["ours"]]
    with pytest.raises(UnreadableRecord, match="schema '2'"):
        await fleet.celeriac.get(key.rpartition(":")[2])
    await fleet.start_worker("--pool", "threads")
    await fleet.all_ended(20)
