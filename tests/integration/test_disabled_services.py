"""A service that is switched off refuses by name, before it asks any server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from orchestrator import AsyncOrchestrator, load_settings
from orchestrator.errors import InvalidSettings, ServiceDisabled
from tests.integration.cli_stand import Run, endpoint, process
from tests.stand import Stand, wait_until

NOWHERE = {"redis_url": "redis://127.0.0.1:9/0"}


async def test_without_the_agent_manager_nothing_is_submitted() -> None:
    off = {"agent_manager": {"enabled": False}}
    settings = load_settings(storage=NOWHERE, services=off)
    async with AsyncOrchestrator(settings) as celeriac:
        with pytest.raises(ServiceDisabled, match=r"services\.agent_manager\.enabled"):
            await celeriac.submit("assistant", {"prompt": "hi"})


async def test_without_conversations_no_task_continues_one() -> None:
    off = {"conversations": {"enabled": False}}
    settings = load_settings(storage=NOWHERE, services=off)
    async with AsyncOrchestrator(settings) as celeriac:
        with pytest.raises(ServiceDisabled, match=r"services\.conversations\.enabled"):
            await celeriac.submit("assistant", {"prompt": "hi"}, conversation_id="c")
        with pytest.raises(ServiceDisabled):
            _ = celeriac.conversations


def test_a_memory_backend_names_where_it_can_be_used() -> None:
    settings = load_settings(storage={"backend": "memory"})
    with pytest.raises(InvalidSettings, match="in_process"):
        AsyncOrchestrator(settings)


def services_of(doctor: str) -> list[str]:
    checks = json.loads(doctor)["checks"]
    return [each["state"] for each in checks if each["name"] == "services"]


def test_commands_tell_of_the_agent_manager_that_is_switched_off(
    stand: Stand, celeriac: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_SERVICES__AGENT_MANAGER__ENABLED", "false")
    told = "set services.agent_manager.enabled: true"
    for command in ("up", "demo"):
        code, out, err = celeriac(command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert told in err
    assert not (stand.directory / ".celeriac").exists()
    code, _, err = celeriac("status")
    assert code == 69
    assert "not ready: agent_manager: the agent_manager service is d" in err
    code, out, _ = celeriac("doctor", "--json")
    assert (code, services_of(out)) == (69, ["fail"])


@pytest.mark.timeout(120)
def test_without_conversations_all_else_is_up(
    stand: Stand, celeriac: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "CELERIAC_SERVICES__CONVERSATIONS__ENABLED"
    monkeypatch.setenv(name, "false")
    stand.environment[name] = "false"
    line = ("up", "--no-flower", "--no-http", "-c", "2")
    with endpoint(stand, ["Hello."]), process(stand, *line) as (up, log):
        wait_until(lambda: "| ready: " in log.read_text(), 60, log.read_text)
        assert celeriac("submit", "assistant", "Hi")[:2] == (0, "Hello.\n")
        assert celeriac("status")[0] == 0
        code, out, _ = celeriac("doctor", "--json")
        assert (code, services_of(out)) == (0, ["warn"])
        code, _, err = celeriac("submit", "assistant", "Hi", "--conversation", "c")
        assert code == 2
        assert "set services.conversations.enabled: true" in err
        up.send_signal(signal.SIGTERM)
        assert up.wait(40) == 0, log.read_text()


@pytest.mark.timeout(120)
def test_up_ends_with_a_worker_that_cannot_take_its_settings(stand: Stand) -> None:
    settings = stand.directory / "celeriac.yaml"
    settings.write_text("agents: {desk: {output_schema: {type: nope}}}\n")
    line = ("up", "--no-flower", "--no-http", "--scripted")
    with process(stand, *line) as (up, log):
        assert up.wait(60) == 2, log.read_text()
    told = log.read_text()
    assert "worker-1 | agent 'desk': output_schema is not a JSON Schema" in told
    last = told.splitlines()[-1]
    assert last.startswith("celeriac: worker-1 ended with code 2, because it cannot")
    assert "options: agent 'desk': output_schema is not a JSON Schema" in last
    assert "starts again" not in told


@pytest.mark.timeout(120)
def test_up_ends_with_a_module_that_cannot_be_imported(stand: Stand) -> None:
    (stand.directory / "mine.py").write_text("1 / 0\n")
    line = ("up", "--no-flower", "--no-http", "--scripted", "-I", "mine")
    with process(stand, *line) as (up, log):
        assert up.wait(60) == 2, log.read_text()
    last = log.read_text().splitlines()[-1]
    assert "mine.py, line 1: ZeroDivisionError: division by zero; correct it" in last
    assert "Traceback" not in log.read_text()


def test_an_http_service_that_cannot_take_its_settings_ends_like_a_worker(
    stand: Stand,
) -> None:
    http = subprocess.run(
        [sys.executable, "-m", "orchestrator.http"],
        cwd=stand.directory,
        env={**stand.variables(), "CELERIAC_HTTP__PORT": "nope"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (http.returncode, http.stdout) == (2, "")
    assert "http.port" in http.stderr
    assert "Traceback" not in http.stderr
