from __future__ import annotations

from errno import EACCES
from os import strerror
from pathlib import Path

import pytest

from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings
from tests.unit.orchestrator.settings_files import SECRET, write


def test_each_place_wins_over_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "CELERIAC_LLM__MODEL"
    write("llm: {model: from-file}")
    assert load_settings().llm.model == "from-file"
    assert load_settings().source_of("llm.model") == "celeriac.yaml"
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "celeriac_llm__model").write_text("from-secrets\n")
    monkeypatch.setenv("CELERIAC_SECRETS_DIR", str(secrets))
    assert load_settings().llm.model == "from-secrets"
    write(f"{key}=from-dotenv\nUNRELATED=1\n", ".env")
    assert load_settings().llm.model == "from-dotenv"
    monkeypatch.setenv(key, "from-environment")
    assert load_settings().llm.model == "from-environment"
    settings = load_settings(llm={"model": "from-arguments"})
    assert settings.llm.model == "from-arguments"
    assert settings.source_of("llm.model") == "arguments"


def test_well_known_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "unix:///run/r.sock?db=1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host/v1/")
    write("OPENAI_API_KEY=sk-1\nCELERY_BROKER_URL=amqp://broker//\n", ".env")
    settings = load_settings()
    assert settings.storage.redis_url.get_secret_value() == "unix:///run/r.sock?db=1"
    assert settings.storage.kombu_url == "amqp://broker//"
    assert settings.llm.base_url == "http://host/v1"
    assert settings.llm.api_key is not None
    assert settings.source_of("storage.redis_url") == "environment (REDIS_URL)"
    assert settings.source_of("llm.api_key") == ".env (OPENAI_API_KEY)"


def test_a_prefixed_name_wins_over_a_well_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one/v1")
    monkeypatch.setenv("CELERIAC_LLM__BASE_URL", "http://two/v1")
    assert load_settings().llm.base_url == "http://two/v1"


def test_empty_variables_set_nothing_and_null_sets_null(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("CELERIAC_LLM__MODEL", "")
    monkeypatch.setenv("CELERIAC_SERVICES__CONVERSATIONS__TTL", "null")
    monkeypatch.setenv("OPENAI_API_KEY", "null")
    write("services: {conversations: {ttl: 1h}}")
    settings = load_settings()
    assert settings.services.conversations.ttl is None
    assert settings.llm.api_key is None
    assert settings.source_of("storage.redis_url") == "default"


def test_a_variable_means_the_name_that_the_file_has_whatever_its_capitals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("llm: {endpoints: {vLLM: {base_url: 'https://host/v1'}}}\nagents: {Desk: }")
    monkeypatch.setenv("CELERIAC_LLM__ENDPOINTS__VLLM__API_KEY", "sk-1")
    monkeypatch.setenv("CELERIAC_AGENTS__DESK__MODEL", "m")
    settings = load_settings()
    assert list(settings.llm.endpoints) == ["vLLM"]
    assert settings.llm.endpoints["vLLM"].api_key is not None
    assert settings.source_of("llm.endpoints.vLLM.api_key") == "environment"
    assert [agent.model for agent in settings.agents.values()] == ["m"]


def test_lists_and_mappings_are_json_in_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_AGENTS__HELPER__TOOLS", '["now"]')
    monkeypatch.setenv("CELERIAC_LLM__HEADERS", '{"X-Team": "a"}')
    settings = load_settings()
    assert settings.agents["helper"].tools == ("now",)
    assert settings.llm.headers["X-Team"].get_secret_value() == "a"


def test_a_variable_that_should_be_json_and_is_not_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_LLM__HEADERS", SECRET)
    monkeypatch.setenv("CELERIAC_LLM__MODEL", "fine")
    monkeypatch.setenv("CELERIAC_AGENTS__DESK__TOOLS", "find_order")
    with pytest.raises(InvalidSettings) as error:
        load_settings()
    assert error.value.problems == (
        f"environment: CELERIAC_LLM__HEADERS is not JSON ({len(SECRET)} characters);"
        ' write a list like ["a", "b"], a mapping like {"a": 1}',
        "environment: CELERIAC_AGENTS__DESK__TOOLS is not JSON (10 characters);"
        ' write a list like ["a", "b"], a mapping like {"a": 1}',
    )


def test_a_settings_file_that_is_a_link_to_nothing_is_not_taken_for_none() -> None:
    Path("celeriac.yaml").symlink_to("mounted.yaml")
    with pytest.raises(InvalidSettings, match="does not exist"):
        load_settings()


def test_constructing_settings_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_TENANT", "other")
    write("CELERIAC_TENANT=other", ".env")
    assert Settings().tenant == "default"
    assert load_settings().tenant == "other"


def test_the_configured_path_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match=r"nowhere\.yaml: does not exist"):
        load_settings(Path("nowhere.yaml"))
    monkeypatch.setenv("CELERIAC_CONFIG", "elsewhere.yaml")
    with pytest.raises(InvalidSettings, match=r"elsewhere\.yaml: does not exist"):
        load_settings()


def test_secrets_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(InvalidSettings, match=r"CELERIAC_SECRETS_DIR: .* directory"):
        load_settings()
    monkeypatch.setenv("CELERIAC_SECRETS_DIR", str(tmp_path))
    (tmp_path / "openai_api_key").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings, match=r"openai_api_key: .*UnicodeDecodeError"):
        load_settings()
    (tmp_path / "openai_api_key").write_bytes(b"x" * 100_000)
    with pytest.raises(InvalidSettings, match=r"openai_api_key: .*larger than"):
        load_settings()


def test_a_dotenv_that_is_not_text_is_named() -> None:
    write(b"OPENAI_API_KEY=\xff", ".env")
    with pytest.raises(InvalidSettings, match=r"\.env: cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    "line",
    [
        f'OPENAI_API_KEY="{SECRET}',
        f"export CELERIAC_LLM__MODEL {SECRET} x",
        "CELERIAC_LLM__MODEL",
    ],
)
def test_a_setting_in_a_dotenv_that_cannot_be_read_is_named_by_its_line(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(f"# mine\nOPENAI_BASE_URL=http://h/v1\n{line}\n", ".env")
    with pytest.raises(InvalidSettings, match=r"^\.env: line 3 cannot be re") as error:
        load_settings()
    assert SECRET not in str(error.value)
    assert caplog.text == ""


def test_what_others_keep_in_a_dotenv_is_doubted_and_not_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write("some words\n=x\nexport OPENAI_BASE_URL='http://h/v1' # ours\n", ".env")
    settings = load_settings()
    assert settings.llm.base_url == "http://h/v1"
    assert [text.partition(";")[0] for text in settings.warnings] == [
        ".env: line 1 cannot be read",
        ".env: line 2 cannot be read",
    ]
    assert caplog.text == ""


def test_dotenv_may_name_the_file_and_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "openai_api_key").write_text("from-secrets")
    write("llm: {model: of-production}", "production.yaml")
    named = "CELERIAC_CONFIG=production.yaml\n"
    write(f"{named}CELERIAC_SECRETS_DIR={tmp_path / 'secrets'}\n", ".env")
    llm = load_settings().llm
    assert llm.model == "of-production"
    assert llm.api_key is not None
    write("llm: {model: of-another}", "another.yaml")
    monkeypatch.setenv("CELERIAC_CONFIG", "another.yaml")
    assert load_settings().llm.model == "of-another"


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("refused_call", ["iterdir", "is_file"])
def test_secrets_that_may_not_be_listed_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_named: bool,
    refused_call: str,
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "openai_api_key").write_text("of-nobody")
    call = getattr(Path, refused_call)

    def refuse(path: Path) -> object:
        if path.is_relative_to(secrets):
            raise PermissionError(EACCES, strerror(EACCES))
        return call(path)

    monkeypatch.setattr("orchestrator.settings_sources._DEFAULT_SECRETS", secrets)
    monkeypatch.setattr(Path, refused_call, refuse)
    told = "secrets cannot be looked for (Permission denied); let this user read"
    if is_named:
        monkeypatch.setenv("CELERIAC_SECRETS_DIR", str(secrets))
        with pytest.raises(InvalidSettings) as refused:
            load_settings()
        assert told in str(refused.value)
    else:
        [warning] = load_settings().warnings
        assert told in warning
