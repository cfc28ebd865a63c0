from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.settings_file import SettingsFileError, read_settings_file


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\n\n", b"---\n"])
def test_an_empty_file_is_an_empty_mapping(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "celeriac.yaml"
    path.write_bytes(content)
    assert read_settings_file(path) == {}


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "celeriac.yaml"
    path.write_bytes("\ufefftenant: é".encode())
    assert read_settings_file(path) == {"tenant": "é"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a:\n\tb: 1", "line 2: a tab cannot indent YAML; use spaces"),
        (b"a: 1\n---\nb: 2", "line 2: a second document starts here; keep one"),
        (b"a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice; remove one"),
        (b"x:\n  a: 1\n  a: 2", "line 3: the key 'a' stands twice; remove one"),
        (b"a: &x [1]\nb: *x", r"line 2: aliases \(\*name\) are not supported"),
        (b"a: &x [*x]", r"line 1: aliases \(\*name\) are not supported"),
        (b"a: !!python/object/apply:os.system [x]", r"line 1: tags .* not supported"),
        (b"1: a", "line 1: the key '1' is not text; quote it"),
        (b"? [a]\n: b", "line 1: the key .* is not text; quote it"),
        (b"a: {b", "line 1: expected"),
        (b"a: 1\n  b: 2", "line 2: mapping values .*; look at the indentation, colons"),
        (b'a: "open\nb: 2', "line 2: found unexpected end .*quotes there and in the"),
        (b"- a", "holds a list, not a mapping; start with a section"),
        (b"just text", "holds a str, not a mapping"),
        (b"a: 2026-13-45", r"not YAML \(month must be in"),
        (b"a: 1\nb: \xe9", "line 2 is not UTF-8; save the file as UTF-8"),
        (b"a: \x00", "not YAML .*special characters"),
        (b"[" * 5000, "not YAML|exceed"),
        (b"#" * 2_000_000, "2000000 bytes exceed 1048576"),
    ],
)
def test_a_file_that_cannot_be_used_gets_one_clear_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "celeriac.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsFileError, match=problem) as error:
        read_settings_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(SettingsFileError, match="is not a regular file"):
            read_settings_file(path)
