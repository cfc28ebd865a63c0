"""Nothing that is stored or sent becomes code, a command or a request of ours."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.celery_settings import celery_settings
from orchestrator.settings import load_settings
from workers.app import app

ROOT = Path(__file__).parents[2]
ROOMS = ("conversations", "orchestrator", "workers")
REVIVES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "marshal",
    "shelve",
}
EVALUATES = {"eval", "exec", "compile", "__import__"}
CONNECTS = {"httpx", "aiohttp", "requests", "urllib3", "http.client", "urllib.request"}
MAY_CONNECT = (
    "workers/llm/",
    "workers/webhooks.py",
    "orchestrator/cli/",
)
"""What sends requests: to the endpoint, and to the webhooks that are allowed."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_nothing_is_imported_that_revives_objects() -> None:
    for name, tree in modules():
        revived = {each.split(".")[0] for each in imports(tree)} & REVIVES
        assert not revived, (name, revived)


def test_nothing_evaluates_text() -> None:
    for name, tree in modules():
        for call in calls(tree):
            called = ast.unparse(call.func)
            assert called not in EVALUATES, (name, call.lineno)
            assert called not in ("os.system", "os.popen"), (name, call.lineno)
            assert "subprocess_shell" not in called, (name, call.lineno)
            for keyword in call.keywords:
                is_shell = keyword.arg == "shell"
                assert not is_shell or ast.unparse(keyword.value) == "False", name


def test_yaml_is_read_by_a_safe_loader_alone() -> None:
    found = 0
    for name, tree in modules():
        for call in calls(tree):
            called = ast.unparse(call.func)
            if called in ("yaml.load", "yaml.load_all"):
                found += 1
                loader = {each.arg: ast.unparse(each.value) for each in call.keywords}
                assert loader.get("Loader") == "_Loader", (name, call.lineno)
            assert "unsafe_load" not in called
            assert "full_load" not in called
    assert found
    bases = [
        ast.unparse(base)
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "_Loader"
        for base in node.bases
    ]
    assert bases
    assert set(bases) <= {"yaml.SafeLoader", "SafeLoader", "yaml.CSafeLoader"}


def test_requests_are_sent_from_few_places() -> None:
    """No tool, page or route fetches an address that it was told."""
    places = {
        name
        for name, tree in modules()
        for each in imports(tree)
        if any(each == it or each.startswith(f"{it}.") for it in CONNECTS)
    }
    assert places
    assert not [each for each in places if not each.startswith(MAY_CONNECT)]


@pytest.mark.parametrize("source", ["settings", "app"])
def test_celery_reads_and_writes_json_alone(source: str) -> None:
    if source == "settings":
        settings = celery_settings(load_settings(agents={}))
    else:
        settings = {name: getattr(app.conf, name) for name in JSON_ALONE}
    for name, value in JSON_ALONE.items():
        assert settings.get(name) == value, name
    assert not settings.get("result_backend")


JSON_ALONE = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
}
