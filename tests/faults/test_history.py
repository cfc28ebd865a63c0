"""B11: Redis comes up with an append-only file of some time ago."""

from __future__ import annotations

import shutil

import pytest

from orchestrator import TaskStatus
from orchestrator.errors import TaskNotFound
from orchestrator.redis_keys import HISTORY
from tests.faults.fleet import Fleet, choose

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_redis_that_comes_up_with_an_older_file_is_noticed_and_work_goes_on(
    fleet: Fleet, pool: str
) -> None:
    """What the file holds ends, what it does not is unknown, and nobody stops."""
    worker = await fleet.start_worker(*choose(pool))
    server = fleet.server
    fleet.model.delay = lambda label, number: 15.0 if label == "running" else 0.0
    await fleet.submit("ended", turns=1)
    await fleet.submit("running", turns=0)
    await fleet.until(fleet.requested("running", 1))
    await fleet.until(fleet.requested("ended", 2))
    await fleet.submit("waiting", turns=1, conversation_id="talk")
    files, kept = server.directory / "appendonlydir", server.directory / "kept"
    shutil.copytree(files, kept)
    gone = await lose_what_comes_now(fleet)
    server.kill()
    shutil.rmtree(files)
    kept.rename(files)
    server.restart()
    await fleet.until(lambda: "history went back" in worker.text(), 30)
    await fleet.all_ended(60)
    statuses = {label: (await fleet.record(label)).status for label in fleet.accepted}
    assert set(statuses.values()) == {TaskStatus.COMPLETED}, statuses
    for task_id in gone:
        with pytest.raises(TaskNotFound):
            await fleet.celeriac.get(task_id)
    await fleet.submit("afterwards", turns=1, conversation_id="talk")
    await fleet.all_ended(30)
    assert worker.text().count("history went back") == 1
    assert worker.process.poll() is None


async def lose_what_comes_now(fleet: Fleet) -> list[str]:
    """Let tasks be accepted and sweeps pass that the older file knows nothing of."""

    def sweeps() -> int:
        with fleet.raw() as client:
            return int(client.hget(HISTORY, "count"))

    before = sweeps()
    labels = [f"gone{number}" for number in range(20)]
    for label in labels:
        await fleet.submit(label, turns=1)
    await fleet.until(lambda: sweeps() > before + 8, 60)
    return [fleet.accepted.pop(label) for label in labels]
