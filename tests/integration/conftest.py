"""Fixtures for tests of the command line."""

from __future__ import annotations

import pytest

from orchestrator.cli.group import run
from tests.integration.cli_stand import Run
from tests.stand import Stand


@pytest.fixture
def celeriac(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line in this process, in the stand's directory."""
    monkeypatch.chdir(stand.directory)

    def run_line(*arguments: str) -> tuple[int, str, str]:
        for name in ("REDIS_URL", "OPENAI_BASE_URL"):
            monkeypatch.setenv(name, stand.variables()[name])
        code = run(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_line
