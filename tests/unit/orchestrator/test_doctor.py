"""What `celeriac doctor` finds in settings alone."""

from __future__ import annotations

import pytest

from orchestrator.cli.doctor import _service_checks
from orchestrator.settings import load_settings

HOOKS = {"allowed": ["https://example.com/"]}


@pytest.mark.parametrize(
    ("webhooks", "states"), [({}, []), (HOOKS, ["warn"]), (HOOKS | {"secret": "s"}, [])]
)
def test_webhooks_that_nobody_could_sign_are_told(
    webhooks: dict[str, object], states: list[str]
) -> None:
    checks = _service_checks(load_settings(webhooks=webhooks))
    assert [each.state for each in checks if each.name == "webhooks"] == states
