"""What no engine checked: the compose file's schema and its agreement with the rest."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from flower.options import options as flower_options

from orchestrator.http_settings import Scope
from orchestrator.settings import load_settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("worker", "http", "flower")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)")


def example_variables() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def test_the_file_fits_the_compose_schema() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [checker, *schema, FILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_services_that_report_their_health(name: str) -> None:
    for target, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert SERVICES[target]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_every_variable_is_explained_in_the_example_environment() -> None:
    used = set(VARIABLE.findall(FILE.read_text()))
    assert used <= example_variables().keys()


def test_every_variable_of_the_example_environment_is_used_or_a_setting() -> None:
    used = set(VARIABLE.findall(FILE.read_text()))
    others = {name for name in example_variables() if name not in used}
    assert all(name == "REDIS_URL" or "__" in name for name in others), others


def test_secrets_have_no_default() -> None:
    text = FILE.read_text()
    for secret in ("REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "CELERIAC_API_KEY_HASH"):
        assert set(re.findall(rf"\$\{{{secret}(.)(.)", text)) == {(":", "?")}
        assert example_variables()[secret] == ""


def test_a_worker_gets_time_to_end_its_longest_run() -> None:
    hard_limit = load_settings(ROOT / "celeriac.yaml").services.agent_manager.time_limit
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= hard_limit


def test_what_is_published_is_so_on_the_loopback_address_alone() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published.keys() == {"flower", "grafana", "http"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_http_service_has_settings_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"CELERIAC_API_KEY_HASH": f"sha256:{'0' * 64}", "REDIS_PASSWORD": "x"}
    for name, value in SERVICES["http"]["environment"].items():
        filled = re.sub(
            r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}",
            lambda found: values.get(found[1], found[2] or ""),
            value,
        )
        monkeypatch.setenv(name, filled)
    http = load_settings(ROOT / "celeriac.yaml").http
    assert (http.host, http.port) == ("0.0.0.0", 8000)  # noqa: S104
    assert http.keys["operator"].hash == values["CELERIAC_API_KEY_HASH"]
    assert Scope.OPERATE in http.keys["operator"].scopes
    assert http.page_url == "http://127.0.0.1:8000"
    assert http.flower_url == "http://127.0.0.1:5555"


def test_prometheus_asks_the_http_service_with_a_key() -> None:
    (job,) = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])[
        "scrape_configs"
    ]
    assert job["static_configs"] == [{"targets": ["http:8000"]}]
    assert job["authorization"]["credentials"] == "${CELERIAC_API_KEY:-}"


def test_grafana_lets_nobody_log_in_and_finds_its_dashboard() -> None:
    grafana, configs = SERVICES["grafana"], COMPOSE["configs"]
    environment = grafana["environment"]
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    targets = {each["source"]: each["target"] for each in grafana["configs"]}
    assert targets.keys() <= configs.keys()
    (provider,) = yaml.safe_load(configs["grafana-dashboards"]["content"])["providers"]
    dashboard = Path(targets["grafana-dashboard"])
    assert provider["options"]["path"] == str(dashboard.parent)
    assert environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == str(dashboard)
    assert (ROOT / configs["grafana-dashboard"]["file"]).is_file()


def test_flower_asks_for_a_login() -> None:
    assert "FLOWER_BASIC_AUTH" in SERVICES["flower"]["environment"]


def test_flower_outside_compose_listens_on_this_machine_only() -> None:
    chosen = runpy.run_path(str(ROOT / "flowerconfig.py"))
    names = {n for n in chosen if n.isidentifier() and not n.startswith("__")}
    assert names <= flower_options.as_dict().keys()
    assert chosen["address"] == "127.0.0.1"


def test_flowers_list_shows_nothing_twice() -> None:
    """The worker and the run time fit a screen: the args are the id that UUID shows."""
    chosen = runpy.run_path(str(ROOT / "flowerconfig.py"))
    columns = chosen["tasks_columns"].split(",")
    assert not {"args", "kwargs", "started"} & set(columns)
    assert {"uuid", "state", "received", "runtime", "worker"} <= set(columns)


def test_workers_can_be_scaled() -> None:
    assert not SERVICES["worker"].keys() & {"container_name", "ports", "hostname"}


def test_redis_never_evicts_and_survives_a_restart() -> None:
    lines = COMPOSE["configs"]["redis"]["content"].splitlines()
    directives = dict(line.split(" ", 1) for line in lines)
    assert directives["maxmemory-policy"] == "noeviction"
    assert directives["appendonly"] == "yes"
    assert f"redis:{directives['dir']}" in SERVICES["redis"]["volumes"]
    assert SERVICES["redis"]["configs"][0]["target"] in SERVICES["redis"]["command"]


def test_the_password_of_redis_is_in_no_command() -> None:
    commands = [shlex.join(s["command"]) for s in SERVICES.values() if "command" in s]
    assert not [command for command in commands if "PASSWORD" in command]


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_closed_and_read_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]


def test_the_command_of_the_worker_is_known_to_it() -> None:
    program, *arguments = SERVICES["worker"]["command"]
    executable = Path(sys.executable).with_name(program)
    done = subprocess.run(
        [executable, *arguments, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    options = [argument for argument in arguments if argument.startswith("--")]
    assert all(option in done.stdout for option in options)


def test_the_command_of_flower_has_only_options_that_flower_knows() -> None:
    command = SERVICES["flower"]["command"]
    assert command[:4] == ["celery", "-A", "workers", "flower"]
    options = {argument.removeprefix("--").split("=")[0] for argument in command[4:]}
    assert options <= flower_options.as_dict().keys()


def test_the_worker_is_well_while_its_heartbeat_file_is_fresh(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    assert heartbeat_check(file) != 0, "no file yet"
    file.touch()
    assert heartbeat_check(file) == 0


def test_the_heartbeat_file_lies_where_the_container_can_write() -> None:
    worker = SERVICES["worker"]
    file = Path(worker["environment"]["CELERIAC_HEARTBEAT_FILE"])
    assert str(file.parent) == worker["tmpfs"]


def heartbeat_check(file: Path) -> int:
    shell = shutil.which("sh") or "/bin/sh"
    check = SERVICES["worker"]["healthcheck"]["test"].replace("$$", "$")
    done = subprocess.run(
        [shell, "-c", check],
        env={"CELERIAC_HEARTBEAT_FILE": str(file), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    return done.returncode
