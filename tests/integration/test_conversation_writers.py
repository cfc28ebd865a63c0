"""Many writers in several processes on one conversation, also when they are killed."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from conversations import ConversationConfig
from orchestrator import AsyncOrchestrator, Orchestrator
from tests.stand import Stand

PROCESSES = 4
ROOT = Path(__file__).parents[2]


def start(
    stand: Stand, process: int, writers: int, messages: int
) -> subprocess.Popen[bytes]:
    share = writers // PROCESSES
    arguments = [stand.redis_url, process * share, share, messages]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.conversation_writer",
            *map(str, arguments),
        ],
        cwd=ROOT,
        env=stand.variables(),
        stderr=subprocess.DEVNULL,
    )


def write_all(stand: Stand, writers: int, messages: int, *, kills: int) -> int:
    """Run the writers to their end; return how often one process was killed.

    The kills are spread over what is written, so that a fast machine has them too.
    """
    draw, killed = random.Random(7), 0  # noqa: S311
    total = writers * messages
    due = sorted(draw.randrange(total * 9 // 10) for _ in range(kills))
    running = {each: start(stand, each, writers, messages) for each in range(PROCESSES)}
    deadline = time.monotonic() + 240
    with Orchestrator(stand.settings()) as celeriac:
        while running:
            assert time.monotonic() < deadline
            written = celeriac.conversations.get("shared").last_seq
            for number, process in list(running.items()):
                code = process.poll()
                assert code in (0, None)
                if code == 0:
                    del running[number]
            if running and due and written >= due[0]:
                due.pop(0)
                number = draw.choice(list(running))
                running[number].kill()
                running[number].wait(10)
                killed += 1
                running[number] = start(stand, number, writers, messages)
    return killed


async def check_all_there(stand: Stand, writers: int, messages: int) -> None:
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        service = celeriac.conversations
        stored = []
        while page := await service.get_messages(
            "shared", limit=1000, after=stored[-1].seq if stored else 0
        ):
            stored += page
    assert [each.seq for each in stored] == list(range(1, writers * messages + 1))
    of_writer: defaultdict[str, list[int]] = defaultdict(list)
    for each in stored:
        writer, _, number = each.message.content.partition("-")
        of_writer[writer].append(int(number))
    assert len(of_writer) == writers
    assert all(numbers == list(range(messages)) for numbers in of_writer.values())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [0, 20], ids=["left alone", "killed"])
@pytest.mark.parametrize(
    ("writers", "messages"),
    [(20, 20), (100, 100)],
)
async def test_writers_of_four_processes_lose_double_and_reorder_nothing(
    stand: Stand, writers: int, messages: int, kills: int
) -> None:
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        config = ConversationConfig(max_messages=None)
        await celeriac.conversations.create(conversation_id="shared", config=config)
    killed = await asyncio.to_thread(write_all, stand, writers, messages, kills=kills)
    assert killed or not kills or writers < 100  # few messages are soon written
    await check_all_there(stand, writers, messages)
