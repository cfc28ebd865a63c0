"""The README's first screen, run as written."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from tests.stand import Stand, wait_until
from workers.llm.double import Double

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.timeout(120)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


@pytest.fixture
def scripted(stand: Stand) -> Iterator[Stand]:
    """A worker in the repository's root that asks the demo's endpoint."""
    log = stand.directory / "double.log"
    command = [sys.executable, "-m", "workers.llm.double", "--demo", "--port", "0"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, cwd=ROOT) as double,
    ):
        wait_until(lambda: b"url" in log.read_bytes(), 20)
        stand.llm_url = re.findall(r'"url": "([^"]+)"', log.read_text())[0]
        stand.environment["CELERIAC_AGENTS__RESEARCHER__KIND"] = "researcher"
        stand.environment["CELERIAC_AGENTS__RESEARCHER__OPTIONS"] = (
            f'{{"roots": ["{ROOT}"]}}'
        )
        yield stand
        double.terminate()


def test_the_ten_lines_print_what_the_readme_shows(scripted: Stand) -> None:
    scripted.start_worker()
    example, shown = blocks("python")[0], blocks("text")[0]
    assert len(example.strip().splitlines()) <= 11
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=scripted.variables(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


async def test_the_agent_of_ones_own_answers(stand: Stand) -> None:
    (stand.directory / "my_agents.py").write_text(blocks("python")[1])
    replies = [
        {"tool_calls": [{"name": "find_order", "arguments": {"number": "A-17"}}]},
        "It is on its way.",
    ]
    async with Double(replies) as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker, "-I", "my_agents")
        result = await asyncio.to_thread(ask_desk, stand)
    assert result == "It is on its way."


def ask_desk(stand: Stand) -> str:
    with Orchestrator(stand.settings()) as celeriac:
        task = celeriac.submit("desk", {"prompt": "Where is A-17?"})
        return task.result(timeout=30).content


def test_the_first_screen_holds_the_two_commands_by_line_20() -> None:
    first = "\n".join(README.splitlines()[:20])
    assert "make demo" in first
    assert "make test" in first
    assert "from orchestrator import Orchestrator" in first


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)#]+)\)", README))
def test_every_linked_document_exists(link: str) -> None:
    assert (ROOT / link).is_file()
