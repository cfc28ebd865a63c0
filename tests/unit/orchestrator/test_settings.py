from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.agent_config import AgentConfig
from orchestrator.cli.setting_rows import setting_rows
from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings, settings_schema

SHIPPED = Path(__file__).parents[3] / "celeriac.yaml"
SECRET = "sk-very-secret"  # noqa: S105


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "CELERY_BROKER_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def write(text: str | bytes, name: str = "celeriac.yaml") -> Path:
    path = Path(name)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as error:
        load_settings(write(text))
    return error.value.problems


def test_nothing_configured_means_the_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.services.agent_manager.time_limit == 330.0
    assert list(settings.agents) == ["assistant", "researcher", "summarizer"]
    assert settings.source_of("llm.model") == "default"


def test_the_shipped_file_states_every_default() -> None:
    assert load_settings(SHIPPED) == Settings()
    assert load_settings(SHIPPED).source_of("storage.redis_url") == "default"
    text = SHIPPED.read_text().replace("# redis_url:", "redis_url:")
    assert load_settings(write(text)) == Settings()
    written = yaml.safe_load(text)
    for name, section in Settings():
        if name == "services":
            for service, fields in section:
                assert set(written[name][service]) == set(type(fields).model_fields)
        elif name not in {"agents", "budgets", "tenant"}:
            assert set(written[name]) == set(type(section).model_fields)


def test_the_given_shape_is_read() -> None:
    settings = load_settings(
        write(
            "services:\n"
            "  agent_manager:\n"
            "    enabled: true\n"
            "    max_concurrent_tasks: 10\n"
            "    task_timeout: 300s\n"
            "  conversations:\n"
            "    enabled: false\n"
            "    max_messages: 1000\n"
            "    context_window: 50\n"
        )
    )
    assert settings.services.agent_manager.task_timeout == 300.0
    assert not settings.services.conversations.enabled


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
    write("services: {conversations: {ttl: 1h}}")
    settings = load_settings()
    assert settings.services.conversations.ttl is None
    assert settings.source_of("storage.redis_url") == "default"


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


def test_a_settings_file_that_is_a_link_to_nothing_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "celeriac.yaml").symlink_to("mounted.yaml")
    with pytest.raises(InvalidSettings, match="does not exist"):
        load_settings()


def test_every_problem_is_told_at_once() -> None:
    assert problems_of(
        "services:\n"
        "  agent_manager: {task_timeout: 5x, max_concurrent_tasks: -1}\n"
        "  conversations: {max_mesages: 5, context_window: true}\n"
        "lmm: {}\n"
        "storage: memory\n"
        "worker: {lease: 4s, heartbeat: 3s}\n"
        "agents: {helper: {tols: []}}\n"
    ) == (
        "services.agent_manager.max_concurrent_tasks:"
        " must be greater than or equal to 1, got -1",
        "services.agent_manager.task_timeout: not a duration ('5x');"
        " write seconds such as 300, or '300s', '5m', '1h30m', '500ms', '7d'",
        "services.conversations.context_window: must be a number, not true or false",
        "services.conversations.max_mesages: unknown key; did you mean max_messages?",
        "storage: must be a mapping, not str; indent its keys",
        "agents.helper.tols: unknown key; did you mean tools?",
        "worker: heartbeat (3s) must be at most half of lease (4s);"
        " raise lease or lower heartbeat",
        "lmm: unknown key; did you mean llm?",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "services: {conversations: {max_messages: 10, context_window: 20}}",
            r"services.conversations: context_window \(20\) must not exceed"
            r" max_messages \(10\); lower context_window or raise max_messages",
        ),
        (
            "llm: {total_timeout: 1s}",
            r"llm: connect_timeout \(5s\) must not exceed total_timeout \(1s\)",
        ),
        (
            "agents: {slow: {soft_time_limit_seconds: 10m, time_limit_seconds: 5m}}",
            r"agents.slow: its soft limit \(10m\) must not exceed .* \(5m\)",
        ),
        (
            "agents: {artist: {kind: painter}}",
            r"agents.artist: kind 'painter' is not known; known are llm, researcher,",
        ),
        ("agents: {slow: {time_limit_seconds: 1m}}", r"agents.slow: .*\(5m\).*\(1m\)"),
        ("agents: {a: {name: b}}", "agents.a: name must equal its key"),
        ("agents: [a]", "agents: must be a mapping, not list"),
        ("agents: {a b: {}}", "agents.a b.name: must be 1 to 64 letters"),
        ("llm: {base_url: 'ftp://host'}", r"llm.base_url: not an http\(s\) URL"),
        ("llm: {base_url: 'http://[::1'}", r"llm.base_url: not an http\(s\) URL"),
        ("llm: {base_url: 'http://h/v1?key=k'}", "no login and no query"),
        ("llm: {base_url: 'http://local host/v1'}", r"llm.base_url: not an http\(s\)"),
        ("llm: {base_url: 'http://host/v1 '}", "llm.base_url: .* without blanks"),
        (
            "storage: {redis_url: 'redis://:pa#ss@host:6379/0'}",
            "storage.redis_url: .*in a password write # as %23",
        ),
        ("llm: {model: 5}", "llm.model: .*, got 5; quote it where it should be text"),
        ("agents: {a: {tools: look}}", "tools: must be a list, got 'look'; write a li"),
        ("agents: {a: {max_turns: true}}", "max_turns: must be a number, not true or"),
        ("llm: {model: ''}", "llm.model: .*at least 1 character"),
        ("storage: {backend: mongo}", "must be 'redis' or 'memory', got 'mongo'"),
        ("storage: {broker_url: somewhere}", "storage.broker_url: must be a broker"),
        ("tenant: 'a:b'", "tenant: must be 1 to 64 letters"),
    ],
)
def test_rules_are_told_with_their_remedy(text: str, problem: str) -> None:
    with pytest.raises(InvalidSettings, match=problem):
        load_settings(write(text))


def test_no_message_and_no_repr_shows_a_secret() -> None:
    told = problems_of(
        f"llm:\n  api_key: [{SECRET}]\n  api_kye: {SECRET}\n"
        f"  base_url: http://user:{SECRET}@host/v1\n  headers: {SECRET}\n"
        f"storage:\n  redis_url: http://:{SECRET}@h\n"
        f"  broker_url: redis://:{SECRET}@h:99999\n"
    )
    assert len(told) == 6
    assert SECRET not in "".join(told)
    Path("celeriac.yaml").unlink()
    settings = load_settings(
        llm={"api_key": SECRET, "headers": {"Authorization": SECRET}},
        storage={"redis_url": f"redis://:{SECRET}@h/0"},
    )
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()
    assert settings.storage.redacted_redis_url == "redis://:***@h/0"
    assert settings.storage.redacted_broker_url == "redis://:***@h/0"


def test_a_secret_in_the_file_is_warned_of() -> None:
    assert load_settings().warnings == ()
    warnings = load_settings(write(f"llm: {{api_key: {SECRET}}}")).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("llm.api_key: a secret stands in celeriac.yaml")
    assert SECRET not in warnings[0]


def test_a_null_in_the_file_is_no_secret() -> None:
    assert load_settings(SHIPPED).warnings == ()


def test_empty_sections_and_agents_mean_their_defaults() -> None:
    assert load_settings(write("llm:\nservices:\n  conversations:\nagents:\n")) == (
        Settings()
    )
    assert load_settings(write("agents:\n  helper:\n")).agents["helper"].kind == "llm"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().tenant = "other"  # type: ignore[misc]


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
    "line", [f'OPENAI_API_KEY="{SECRET}', f"export CELERIAC_LLM__MODEL {SECRET} x"]
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


def test_the_schema_accepts_agents_without_a_name() -> None:
    schema = settings_schema()
    agent = schema["$defs"]["AgentConfig"]
    assert "name" not in agent["properties"]
    assert "required" not in agent
    assert json.dumps(schema)


def test_the_documentation_names_every_setting() -> None:
    page = (SHIPPED.parent / "docs" / "configuration.md").read_text()
    paths = [row.path for row in setting_rows(Settings())]
    paths += list(AgentConfig.model_fields)
    undocumented = [
        path
        for path in paths
        if f"`{path}`" not in page and path != "name" and not path.startswith("agents.")
    ]
    assert undocumented == []
