"""Text beyond the locale: told with its cause coming in, spelt out going out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import exit_codes
from orchestrator.cli.encoding import standard_input
from orchestrator.cli.group import run
from orchestrator.cli.output import echo_json

EMOJI = "\U0001f600"
IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def stdout_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    return written


@pytest.mark.parametrize("given", [EMOJI, f"--tag={EMOJI}", '{"prompt": "é"}'])
def test_an_argument_that_the_locale_cannot_read_is_told_with_the_remedy(given: str):
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator", "submit", "assistant", given],
        env=os.environ | IN_ASCII,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == exit_codes.USAGE
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for words in ("argument 3 is not ascii", "locale", "LC_ALL", "PYTHONUTF8=1"):
        assert words in line


def test_an_argument_that_is_not_utf_8_is_told_so(capsys: pytest.CaptureFixture[str]):
    assert run(["submit", "assistant", os.fsdecode(b"caf\xe9")]) == exit_codes.USAGE
    told = capsys.readouterr().err
    assert told == "celeriac: argument 3 is not UTF-8; write it in UTF-8\n"


def test_a_file_whose_name_is_no_text_can_be_named(
    capsys: pytest.CaptureFixture[str],
):
    name = os.fsdecode(b"caf\xe9.json")
    Path(name).write_text("{}")
    run(["conversations", "import", name])
    assert "UTF-8" not in capsys.readouterr().err


def test_what_standard_output_cannot_show_is_spelt_out(
    monkeypatch: pytest.MonkeyPatch,
):
    written = stdout_in("latin-1", monkeypatch)
    run(["--version"])
    click.echo(f"é {EMOJI}")
    echo_json({"text": f"é {EMOJI}"})
    _, line, shown = written.getvalue().decode("latin-1").splitlines()
    assert line == "é \\U0001f600"
    assert json.loads(shown) == {"text": f"é {EMOJI}"}


def test_standard_input_is_utf_8_in_every_locale(monkeypatch: pytest.MonkeyPatch):
    given = io.TextIOWrapper(io.BytesIO(EMOJI.encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", given)
    assert standard_input() == EMOJI


def test_standard_input_that_is_not_utf_8_is_told_with_the_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    assert run(["submit", "assistant", "-"]) == exit_codes.USAGE
    assert "standard input is not UTF-8 at byte 3" in capsys.readouterr().err
