from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from orchestrator.cli.group import run
from orchestrator.settings import load_settings


@pytest.mark.parametrize("name", ["reporting", "007", "true", "null", "1e3", "-", "on"])
def test_the_lines_that_it_prints_are_settings(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--tenant", "0x1F", "--scope", "read", "--scope", "submit")
    assert run(["api-key", name, *options]) == 0
    shown = capsys.readouterr()
    path = tmp_path / "celeriac.yaml"
    path.write_text(shown.err[shown.err.index("http:") :])
    key = load_settings(path).http.keys[name]
    assert key.tenant == "0x1F"
    assert [*key.scopes] == ["read", "submit"]
    assert (
        key.hash == f"sha256:{hashlib.sha256(shown.out.strip().encode()).hexdigest()}"
    )


def test_as_json_it_tells_the_default_scopes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["api-key", "mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scopes"] == ["read", "submit", "cancel"]
    assert told["hash"].startswith("sha256:")
    assert told["key"].startswith("clk_")


def test_a_name_that_no_settings_take_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["api-key", "a b"]) == 2
    assert "name must be 1 to 64" in capsys.readouterr().err
