from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.errors import ToolFailed
from workers.tools import document_roots
from workers.tools.document_roots import MAX_FILE_BYTES, DocumentRoots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "docs" / "a.md").write_text("\ufeffalpha\n", encoding="utf-8")
    (root / "docs" / "deep" / "b.txt").write_text("beta\n")
    (root / "docs" / "picture.png").write_bytes(b"\x89PNG")
    (root / "docs" / "latin.txt").write_bytes("å".encode("latin-1"))
    (root / ".git" / "config.md").write_text("secret")
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "c.md").write_text("gamma")
    return root


def test_file_below_a_root_is_read_under_its_relative_name(root: Path) -> None:
    document = DocumentRoots([root]).get_document("docs/a.md")
    assert (document.name, document.lines) == ("docs/a.md", ("alpha",))
    same = DocumentRoots([root]).get_document(str(root / "docs" / "a.md"))
    assert same == document


def test_every_root_is_looked_in(root: Path) -> None:
    roots = DocumentRoots([root, root.parent / "root2"])
    assert roots.get_document("c.md").lines == ("gamma",)


def test_directory_stands_for_its_text_files_and_names_what_it_skipped(
    root: Path,
) -> None:
    (root / "docs" / "link.md").symlink_to(root.parent / "secret.md")
    (root / "docs" / ".hidden.md").write_text("secret")
    found = DocumentRoots([root]).find_documents(".")
    assert [document.name for document in found.documents] == [
        "docs/a.md",
        "docs/deep/b.txt",
    ]
    assert found.skipped == ("docs/latin.txt",)


@pytest.mark.parametrize(
    "path",
    ["../secret.md", "docs/../../secret.md", "/etc/passwd", "../root2/c.md", "link.md"],
)
def test_path_that_leads_out_of_the_roots_is_refused(root: Path, path: str) -> None:
    (root / "link.md").symlink_to(root.parent / "secret.md")
    with pytest.raises(ToolFailed, match="is outside the allowed roots"):
        DocumentRoots([root]).get_document(path)


def test_the_default_root_is_named_for_what_it_is() -> None:
    with pytest.raises(ToolFailed, match=r"roots \(\., the worker's directory\); .*op"):
        DocumentRoots(["."]).get_document("/etc/passwd")


def test_directory_link_that_leads_out_is_refused(root: Path) -> None:
    (root / "up").symlink_to(root.parent)
    with pytest.raises(ToolFailed, match="is outside"):
        DocumentRoots([root]).get_document("up/secret.md")
    assert all(
        "secret" not in line
        for document in DocumentRoots([root]).find_documents(".").documents
        for line in document.lines
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("docs/none.md", r"does not exist below the allowed roots \(.*; name anothe"),
        ("docs/picture.png", "suffix '.png' is not one of text"),
        ("docs/latin.txt", "not UTF-8 text"),
        ("docs", "is a directory; name a file"),
        (".git/config.md", "is hidden"),
        ("a\0b", "not a usable path"),
        ("x" * 5000, "not a usable path|does not exist"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    root: Path, path: str, why: str
) -> None:
    with pytest.raises(ToolFailed, match=why):
        DocumentRoots([root]).get_document(path)


def test_link_to_a_hidden_file_is_refused(root: Path) -> None:
    (root / "innocent.md").symlink_to(root / ".git" / "config.md")
    with pytest.raises(ToolFailed, match="is hidden"):
        DocumentRoots([root]).get_document("innocent.md")


def test_link_that_is_put_in_a_files_place_meanwhile_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, exists = root / "docs" / "a.md", Path.exists

    def put_link(path: Path) -> bool:
        file.unlink()
        file.symlink_to(root.parent / "secret.md")
        return exists(path)

    monkeypatch.setattr(Path, "exists", put_link)
    with pytest.raises(ToolFailed, match="cannot be read"):
        DocumentRoots([root]).get_document("docs/a.md")


def test_link_that_is_put_in_a_directorys_place_meanwhile_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, exists = root / "docs" / "deep", Path.exists
    (root.parent / "root2" / "b.txt").write_text("secret")

    def put_link(path: Path) -> bool:
        folder.rename(root / "away")
        folder.symlink_to(root.parent / "root2")
        return exists(path)

    monkeypatch.setattr(Path, "exists", put_link)
    with pytest.raises(ToolFailed, match="cannot be read"):
        DocumentRoots([root]).get_document("docs/deep/b.txt")


def test_a_root_may_be_a_file(root: Path) -> None:
    file = root / "docs" / "a.md"
    assert DocumentRoots([file]).get_document(str(file)).lines == ("alpha",)


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_TOTAL_BYTES"])
def test_directory_of_too_much_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(document_roots, limit, 1)
    with pytest.raises(ToolFailed, match="name a part of it"):
        DocumentRoots([root]).find_documents("docs")


def test_pipe_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    with pytest.raises(ToolFailed, match="not a regular file"):
        DocumentRoots([root]).get_document("pipe.md")


def test_large_and_binary_files_are_refused(root: Path) -> None:
    (root / "large.txt").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (root / "binary.txt").write_bytes(b"a\0b")
    with pytest.raises(ToolFailed, match="is larger than 2097152 bytes"):
        DocumentRoots([root]).get_document("large.txt")
    with pytest.raises(ToolFailed, match="NUL bytes"):
        DocumentRoots([root]).get_document("binary.txt")


def test_directory_without_text_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(ToolFailed, match="no text files"):
        DocumentRoots([root]).find_documents("empty")
