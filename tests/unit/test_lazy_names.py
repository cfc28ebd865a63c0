"""The names that the packages offer, which are imported on first use."""

from __future__ import annotations

import ast
from importlib import import_module
from inspect import getsource

import pytest


@pytest.mark.parametrize("package", ["conversations", "orchestrator", "workers"])
def test_type_checkers_know_every_name_that_a_package_offers(package: str) -> None:
    """Else it is `Any` to them, by the package's `__getattr__`."""
    module = import_module(package)
    known = {
        alias.asname or alias.name
        for block in ast.parse(getsource(module)).body
        if isinstance(block, ast.If)
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert known == {*module.__all__}
    for name in known:
        assert getattr(module, name) is not None
