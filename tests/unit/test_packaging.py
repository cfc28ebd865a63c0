"""What is shipped is whole: packages, locks, the image's ingredients."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("conversations", "orchestrator", "workers")
LOCKED_EXTRAS = [*PROJECT["project"]["optional-dependencies"].keys() - {"llamacpp"}]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-oldest.lock")
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text()))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> list[Requirement]:
    project = PROJECT["project"]
    lines = PROJECT["build-system"]["requires"] + project["dependencies"]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.name != project["name"]]


def test_every_package_of_the_rooms_is_shipped() -> None:
    present = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for file in (ROOT / room).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == present


def test_every_room_says_that_it_is_typed() -> None:
    assert all((ROOT / room / "py.typed").exists() for room in ROOMS)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_place_on_a_disk(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?:|file:|index-url|find-links| @ ", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert all(PIN.match(e) and "--hash=sha256:" in e for e in entries)


def test_the_runtime_lock_fits_the_project() -> None:
    assert_pinned(requirements(), pins("requirements.lock"))


def test_the_development_lock_fits_the_project_and_its_extras() -> None:
    assert_pinned(requirements(*LOCKED_EXTRAS), pins("requirements-dev.lock"))


def test_the_lock_of_the_oldest_begins_where_the_ranges_do() -> None:
    asked, oldest = requirements("http", "embedded"), pins("requirements-oldest.lock")
    assert_pinned(asked, oldest)
    begins = {
        each.name: Version(spec.version).release
        for each in asked
        for spec in each.specifier
        if spec.operator == ">="
    }
    assert all(len(first) > 1 for first in begins.values()), "else 6.9 begins >=6"
    later = {
        name
        for name, first in begins.items()
        if Version(oldest[name.lower()]).release[: len(first)] != first
    }
    assert later == {"billiard", "typing-extensions"}, "kombu and pydantic need these"


def test_both_locks_pin_the_same_versions() -> None:
    runtime, development = map(pins, LOCKS[:2])
    assert runtime.items() <= development.items()


def test_the_image_is_made_of_files_that_exist_and_reach_the_builder() -> None:
    allowed = set((ROOT / ".dockerignore").read_text().split())
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed, source


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in {"root", "0"}


def test_the_image_installs_only_what_the_lock_names() -> None:
    installs = re.findall(r"pip install (.*)", (ROOT / "Dockerfile").read_text())
    assert installs[0] == "--no-deps --require-hashes -r requirements.lock"
    assert [line.split(" ")[0] for line in installs[1:]] == ["--no-deps"]


def test_the_makefile_resolves_nothing() -> None:
    installs = re.findall(r"pip install (.*)", (ROOT / "Makefile").read_text())
    locked = [line for line in installs if "requirements-dev.lock" in line]
    assert len(locked) == 2
    assert all("--no-deps --require-hashes" in line for line in locked)


def test_what_the_lock_installs_lacks_nothing() -> None:
    waiting = [r for r in requirements(*LOCKED_EXTRAS) if applies(r, extras=set())]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        if (name := str(wanted)) in seen:
            continue
        seen.add(name)
        assert Version(version(wanted.name)) in wanted.specifier, wanted
        for line in requires(wanted.name) or ():
            needed = Requirement(line)
            if applies(needed, extras=wanted.extras):
                waiting.append(needed)


def applies(needed: Requirement, *, extras: set[str]) -> bool:
    marker = needed.marker
    return marker is None or any(
        marker.evaluate({"extra": extra}) for extra in ("", *extras)
    )


def test_the_changelog_has_a_section_for_what_comes_next() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)", (ROOT / "Dockerfile").read_text(), re.M)
    return [source for line in lines for source in shlex.split(line)[:-1]]


def assert_pinned(wanted: list[Requirement], pinned: dict[str, str]) -> None:
    for requirement in wanted:
        version = pinned.get(normal(requirement.name))
        assert version, f"{requirement.name} is not pinned; run make lock"
        assert Version(version) in requirement.specifier, requirement


def test_every_library_that_the_rooms_import_is_declared() -> None:
    homes = packages_distributions()
    declared = {
        normal(each.name)
        for each in requirements("embedded", "http", "testing", "uvloop")
    }
    declared |= {"pydantic-core", "starlette"}  # pydantic and fastapi pin them
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            for module in imported(file) - sys.stdlib_module_names - set(ROOMS):
                assert {normal(name) for name in homes[module]} & declared, (
                    f"{file.name} imports {module}: name it in pyproject.toml"
                )


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("target", ["test", "check", "demo", "up"])
def test_make_installs_once_and_then_needs_no_network(
    target: str, tmp_path: Path
) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    assert "pip install" in planned(target, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert "pip" not in planned(target, tmp_path)


def planned(target: str, directory: Path) -> str:
    """What make would run there."""
    asked = ["make", "--dry-run", "UV=", target]
    return subprocess.run(
        asked,
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout
