"""Several endpoints in the settings: names, keys and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from traceback import format_exception

import pytest

from orchestrator.cli.setting_rows import setting_rows
from orchestrator.errors import InvalidSettings
from orchestrator.llm_settings import LLMSettings
from orchestrator.settings import Settings, load_settings

FILE = """
llm:
  limits: {in_flight: 4}
  endpoints:
    hosted:
      base_url: https://llm.example.com/v1/
      model: large
      prices: {large: {input: 2, output: "8.50"}}
agents:
  analyst: {endpoint: hosted, fallback: [{model: small}]}
"""


def read(text: str) -> Settings:
    Path("celeriac.yaml").write_text(text)
    return load_settings()


def test_endpoints_have_names_and_the_default_comes_first() -> None:
    settings = read(FILE)
    assert list(settings.llm.by_name) == ["default", "hosted"]
    hosted = settings.llm.by_name["hosted"]
    assert hosted.base_url == "https://llm.example.com/v1"
    assert settings.llm.limits.gate_limits.in_flight == 4
    assert not hosted.limits.gate_limits.are_set


def test_a_key_comes_from_the_environment_or_a_secret_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELERIAC_LLM__ENDPOINTS__HOSTED__API_KEY", "from-environment")
    key = read(FILE).llm.endpoints["hosted"].api_key
    assert key is not None
    assert key.get_secret_value() == "from-environment"
    monkeypatch.delenv("CELERIAC_LLM__ENDPOINTS__HOSTED__API_KEY")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "celeriac_llm__endpoints__hosted__api_key").write_text("from-file\n")
    monkeypatch.setenv("CELERIAC_SECRETS_DIR", str(secrets))
    key = read(FILE).llm.endpoints["hosted"].api_key
    assert key is not None
    assert key.get_secret_value() == "from-file"


def test_a_key_in_the_file_is_warned_of_and_shown_nowhere() -> None:
    settings = read(FILE.replace("model: large", "model: large\n      api_key: canary"))
    assert any("llm.endpoints.hosted.api_key" in line for line in settings.warnings)
    rows = " ".join(map(str, setting_rows(settings)))
    assert "canary" not in rows + repr(settings)
    assert "8.50" in rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("endpoint: hosted", "endpoint: hostde"), "did you mean hosted?"),
        (("{model: small}", "{endpoint: none}"), "not among llm.endpoints"),
        (("    hosted:", "    default:"), "use another name"),
        (("in_flight: 4", "in_flight: 0"), "llm.limits.in_flight"),
        (("in_flight: 4", "in_fligth: 4"), "did you mean in_flight?"),
        (("input: 2", "input: -2"), "llm.endpoints.hosted.prices.large.input"),
        (("model: large", "proxy: socks5://x"), "write it like http://proxy:3128"),
        (("llm:\n", "llm:\n  loopback_only: true\n"), "loopback_only"),
    ],
)
def test_what_cannot_be_used_is_named(change: tuple[str, str], words: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read(FILE.replace(*change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.0.0.2:1/v1", "http://[::1]:1/v1"]
)
def test_this_machine_is_allowed_where_others_are_not(url: str) -> None:
    assert LLMSettings(base_url=url, loopback_only=True).base_url == url


@pytest.mark.parametrize(
    ("yaml", "free"),
    [
        ("budget: {cost: 1}", "model 'm' of endpoint 'default'"),
        ("budget: {daily_cost: 1}, model: priced", None),
        ("budget: {tokens: 5}", None),
        (
            "budget: {cost: 1}, model: priced, fallback: [{model: n}]",
            "model 'n' of endpoint 'default'",
        ),
        ("budget: {cost: 1}, endpoint: any", None),
        ("budget: {cost: 1}, endpoint: free", "model 'f' of endpoint 'free'"),
    ],
)
def test_a_budget_of_money_for_a_model_without_a_price_is_told(
    yaml: str, free: str | None
) -> None:
    endpoints = "any: {prices: {'*': {input: 1}}}, free: {model: f}"
    llm = f"{{model: m, prices: {{priced: {{input: 1}}}}, endpoints: {{{endpoints}}}}}"
    settings = read(f"llm: {llm}\nagents: {{a: {{kind: llm, {yaml}}}}}")
    told = " ".join(settings.warnings)
    assert ("counts as free" in told) is (free is not None)
    assert (free or "") in told


def test_a_tenants_money_needs_prices_for_every_agent() -> None:
    settings = read("budgets: {acme: {daily_cost: 1}}\nagents: {a: {kind: llm}}")
    assert any("agents.a" in line for line in settings.warnings)


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://a..b:3128",
        "http://a b:3128",
        "http://me:pw#canary@h:3128",
        "http://me:pw@x/canary@h:3128",
        "http://me:canary@[::1",
        "http://h:3128/?canary",
        "http://me:canary@h:3128\n",
    ],
)
def test_a_proxy_that_is_no_address_is_refused_and_not_repeated(proxy: str) -> None:
    with pytest.raises(InvalidSettings, match="write it like http://proxy:3128") as no:
        load_settings(llm={"proxy": proxy})
    assert "canary" not in str(no.value)
    assert "canary" not in "".join(format_exception(no.value))


@pytest.mark.parametrize(
    "proxy", ["http://h", "https://h:3128/", "http://me:p@ss%23word@[::1]:3128"]
)
def test_a_proxys_address_is_taken_as_it_stands(proxy: str) -> None:
    taken = load_settings(llm={"proxy": proxy}).llm.proxy
    assert taken is not None
    assert taken.get_secret_value() == proxy


def test_a_variable_reaches_a_name_with_hyphens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_LLM__ENDPOINTS__OPEN_ROUTER__API_KEY", "from-shell")
    settings = read("llm: {endpoints: {Open-Router: {base_url: 'https://o/v1'}}}")
    [(name, endpoint)] = settings.llm.endpoints.items()
    assert name == "Open-Router"
    assert endpoint.api_key is not None
    assert settings.warnings == ()


def test_a_key_of_an_endpoint_that_is_misspelt_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERIAC_LLM__ENDPOINTS__HOSTD__API_KEY", "canary")
    [told] = read(FILE).warnings
    assert told == (
        "llm.endpoints.hostd: nothing but a secret is set of it, which would go to"
        " http://localhost:11434/v1; did you mean hosted?"
    )


def test_a_proxy_elsewhere_is_not_on_this_machine() -> None:
    with pytest.raises(InvalidSettings, match="'default' has a proxy at far, and loop"):
        load_settings(llm={"loopback_only": True, "proxy": "http://far:3128"})
    load_settings(llm={"loopback_only": True, "proxy": "http://localhost:3128"})


def test_off_is_a_word_of_a_response_format_that_yaml_reads_as_false() -> None:
    assert read("llm: {response_format: off}").llm.response_format == "off"
    assert read("llm: {response_format: 'off'}").llm.response_format == "off"
