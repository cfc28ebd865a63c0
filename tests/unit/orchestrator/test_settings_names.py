from __future__ import annotations

import pytest

from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings
from tests.unit.orchestrator.settings_files import SECRET


def test_a_misspelt_variable_is_refused_and_foreign_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_SERVICE_HOST", "10.0.0.1")  # as Kubernetes sets it
    assert load_settings() == Settings()
    monkeypatch.setenv("CELERIAC_LMM__MODEL", "m")
    with pytest.raises(InvalidSettings, match="did you mean CELERIAC_LLM"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("CELERIAC_LLM_MODEL", "m", "CELERIAC_LLM__MODEL"),
        ("celeriac_llm_limits_in_flight", "3", "CELERIAC_LLM__LIMITS__IN_FLIGHT"),
        (
            "CELERIAC_SERVICES_AGENT_MANAGER_TASK_TIMEOUT",
            "10m",
            "CELERIAC_SERVICES__AGENT_MANAGER__TASK_TIMEOUT",
        ),
        ("CELERIAC_HTTP_PORT", "8001", "CELERIAC_HTTP__PORT"),
        ("CELERIAC_REDIS_URL", "redis://h", "REDIS_URL"),
        ("CELERIAC_OPENAI_API_KEY", SECRET, "OPENAI_API_KEY"),
    ],
)
def test_a_setting_with_one_underscore_for_two_is_refused_with_the_right_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, right: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as error:
        load_settings()
    assert error.value.problems == (f"{name}: sets nothing; write {right}",)


def test_names_that_kubernetes_makes_are_no_slips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_HTTP_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("CELERIAC_HTTP_PORT_8000_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("CELERIAC_LLM_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("CELERIAC_API_KEY", "for Prometheus")
    assert load_settings().warnings == ()


def test_a_variable_that_sets_nothing_but_looks_like_a_setting_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_LLM_MODLE", "m")
    monkeypatch.setenv("CELERIAC_TENNANT", "acme")
    monkeypatch.setenv("CELERIAC_TASK_TIMEOUT", "5m")
    for name in ("VERSION", "STAGE", "REGION", "TOKEN", "URL", "DEBUG", "IMAGE_TAG"):
        monkeypatch.setenv(f"CELERIAC_{name}", "of another program")
    assert sorted(load_settings().warnings) == [
        "CELERIAC_LLM_MODLE sets nothing; did you mean CELERIAC_LLM__MODEL?",
        "CELERIAC_TASK_TIMEOUT sets nothing; did you mean"
        " CELERIAC_SERVICES__AGENT_MANAGER__TASK_TIMEOUT?",
        "CELERIAC_TENNANT sets nothing; did you mean CELERIAC_TENANT?",
    ]


def test_two_underscores_after_the_prefix_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC__LLM__MODEL", "m")
    with pytest.raises(InvalidSettings, match="nothing; write CELERIAC_LLM__MODEL"):
        load_settings()
