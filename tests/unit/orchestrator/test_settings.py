from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.agent_config import AgentConfig
from orchestrator.cli.setting_rows import setting_rows
from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings, settings_schema
from tests.unit.orchestrator.settings_files import SECRET, write

HASH = f"sha256:{'0' * 64}"
SHIPPED = Path(__file__).parents[3] / "celeriac.yaml"


def problems_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as error:
        load_settings(write(text))
    return error.value.problems


def test_origins_that_browsers_send_are_taken() -> None:
    named = ("https://app.example", "http://[::1]:3000", "null", "file://")
    text = f"http: {{cors_origins: {[*named]}}}"
    assert load_settings(write(text)).http.cors_origins == named


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


def test_what_agents_ask_of_the_rest_is_told_at_once() -> None:
    text = """
agents:
  a: {kind: foo, endpoint: nope, fallback: [{endpoint: nix}], time_limit_seconds: 1}
  b: {endpoint: zip}
"""
    problems = problems_of(text)
    assert [line.split(":")[0] for line in problems] == [*["agents.a"] * 4, "agents.b"]


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
            "agents: {long: {max_output_tokens: 3000000000}}",
            "agents.long: max_output_tokens 3000000000 exceeds 2147483648; set what",
        ),
        (
            "agents: {artist: {kind: painter}}",
            r"agents.artist: kind 'painter' is not known; known are llm, researcher,",
        ),
        ("agents: {slow: {time_limit_seconds: 1m}}", r"agents.slow: .*\(5m\).*\(1m\)"),
        ("agents: {a: {name: b}}", "agents.a: name must equal its key"),
        ("agents: [a]", "agents: must be a mapping, not list"),
        ("agents: {a b: {}}", "agents.a b.name: must be 1 to 64 letters"),
        ("agents: {für: {}}", "agents.für.name: must be 1 to 64 letters of ASCII, dig"),
        ("http: {keys: {a: {hash: clk_key}}}", "http.keys.a.hash: must be .*api-key"),
        ("http: {cors_origins: ['https://a.example/']}", "'https://a.example/' is no"),
        (
            "http: {cors_origins: [a.example]}",
            "http.cors_origins: 'a.example' is no or",
        ),
        (
            "webhooks: {allowed: ['ftp://h/']}",
            r"webhooks.allowed: not an http\(s\) URL",
        ),
        ("webhooks: {allowed: ['https://h/?token=t']}", "no login and no query"),
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
        (
            "services: {conversations: {max_messages: 10000000000}}",
            "conversations.max_messages: must be less than or equal to 1000000000",
        ),
        (
            f"http: {{keys: {{a: {{hash: {HASH}}}, b: {{hash: {HASH}}}}}}}",
            "http.keys: 'a' and 'b' have the same hash, and one key has one tenant",
        ),
        (
            "budgets: {acme: {daily_tokens: true}}",
            "must be a number, not true or false",
        ),
        ("webhooks: {secret: ' '}", "webhooks.secret: is blank, so anybody could sign"),
        (
            "webhooks: {allowed: ['https://h:99999/']}",
            "write it like https://host:5555",
        ),
        ("http: {public_url: 'https://h:port'}", r"http.public_url: not an http\(s\)"),
        ("http: {flower_url: 'http://[::1'}", r"http.flower_url: not an http\(s\) URL"),
        ("llm: {base_url: 'http://h/v1#a'}", "no login and no query"),
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


def test_every_secret_in_the_file_is_warned_of_and_no_address_without_one() -> None:
    file = write(
        f"llm:\n  proxy: http://me:{SECRET}@proxy:3128\n"
        "  endpoints: {other: {proxy: 'http://proxy:3128', headers: {X-Key: k}}}\n"
        f"storage: {{redis_url: 'rediss://:{SECRET}@h/0?ssl_ca_certs=/ca.pem',"
        f" broker_url: 'redis://one;unix:///r?password={SECRET}'}}\n"
        f"webhooks: {{secret: {SECRET}}}\n"
    )
    warnings = load_settings(file).warnings
    assert [line.partition(":")[0] for line in warnings] == [
        "llm.endpoints.other.headers",
        "webhooks.secret",
        "llm.proxy",
        "storage.redis_url",
        "storage.broker_url",
    ]
    assert SECRET not in "".join(warnings)
    urls = "{redis_url: 'rediss://u@h/0?ssl_ca_certs=/ca.pem', broker_url: 'amqp://h'}"
    assert load_settings(write(f"storage: {urls}")).warnings == ()


def test_keys_that_outlive_their_task_are_warned_of() -> None:
    [told] = load_settings(retention={"result_ttl": "1h"}).warnings
    assert "idempotency_ttl (1d) is longer than result_ttl (1h)" in told


def test_a_section_in_capitals_is_refused_as_a_key_in_it_is() -> None:
    assert problems_of("LLM: {model: m}\nTenant: acme\n") == (
        "LLM: unknown key; did you mean llm?",
        "Tenant: unknown key; did you mean tenant?",
    )


def test_a_source_is_told_of_a_key_with_a_dot() -> None:
    settings = load_settings(write("llm: {prices: {gpt-4.1: {input: 2}}}"))
    sources = {row.path: row.source for row in setting_rows(settings)}
    assert sources["llm.prices.gpt-4.1.input"] == "celeriac.yaml"
    assert sources["llm.prices.gpt-4.1.output"] == "default"


def test_the_page_of_an_ipv6_address_has_brackets() -> None:
    http = load_settings(http={"host": "::1", "port": 80}).http
    assert http.page_url == http.address == "http://[::1]:80"


def test_origins_that_no_key_could_come_from_are_warned_of() -> None:
    http = {"cors_origins": ["https://app.example"]}
    [told] = load_settings(http=http).warnings
    assert told.startswith("http.cors_origins has no effect without http.keys")
    assert load_settings(http=http | {"keys": {"a": {"hash": HASH}}}).warnings == ()
