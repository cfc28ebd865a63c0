"""The fixtures for users' tests, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEADER = """
import asyncio
import pytest
from orchestrator.errors import InvalidSettings, TaskFailed
from orchestrator.settings import load_settings
from workers.errors import InvalidEndpoint
from workers.llm.chat_completions import ChatCompletionsProvider
"""
PASSING = """
def add(a: int, b: int) -> int:
    return a + b

def test_an_agent_runs_on_a_script(llm_double, run_agent):
    call = {"name": "add", "arguments": {"a": 2, "b": 3}}
    llm_double.reply({"tool_calls": [call]}, "It is 5.")
    result = run_agent("llm", "2 + 3?", tools=[add])
    assert result.content == "It is 5."
    assert result.stats.tool_calls == 1
    assert llm_double.requests[1].body["messages"][-1]["content"] == "5"


def test_settings_refuse_other_machines(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.example.com/v1")
    with pytest.raises(InvalidSettings, match="loopback_only"):
        load_settings()

def ask(url):
    async def made():
        provider = ChatCompletionsProvider(url, model="m")
        await provider.aclose()
    asyncio.run(made())

def test_providers_refuse_other_machines():
    with pytest.raises(InvalidEndpoint, match="llm_double.url"):
        ask("https://api.example.com/v1")
    ask("http://127.0.0.1:9/v1")

@pytest.mark.real_llm
def test_unless_the_test_says_so(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.example.com/v1")
    load_settings()
    ask("https://api.example.com/v1")
"""
UNUSED = """
def test_it(llm_double, run_agent):
    llm_double.reply("a", "never")
    run_agent("llm", "hello")
"""
BEYOND = """
def test_it(llm_double, run_agent):
    with pytest.raises(TaskFailed, match="no more replies"):
        run_agent("llm", "hello")
"""
RAISING = """
class Broken:
    async def run(self, ctx, agent_input):
        return agent_input.data["price"]

def test_it(run_agent):
    run_agent(Broken(), {"cost": 1})
"""


def run_pytest(directory: Path, text: str) -> tuple[int, str]:
    (directory / "test_given.py").write_text(HEADER + text)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers"]
    command += ["-p", "workers.pytest_plugin", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("OPENAI_BASE_URL", None)
    ended = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return ended.returncode, ended.stdout


def test_agents_run_on_scripts_and_no_other_machine_is_asked(tmp_path: Path):
    code, output = run_pytest(tmp_path, PASSING)
    assert code == 0, output
    assert "4 passed" in output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (UNUSED, "1 scripted replies were not used"),
        (BEYOND, "1 calls came after the last scripted reply"),
    ],
)
def test_a_script_that_does_not_match_the_calls_fails_the_test(
    tmp_path: Path, text: str, words: str
):
    code, output = run_pytest(tmp_path, text)
    assert code == 1, output
    assert words in output


def test_a_test_of_an_agent_that_raises_shows_its_line(tmp_path: Path) -> None:
    code, told = run_pytest(tmp_path, RAISING)
    assert code == 1
    assert '>       return agent_input.data["price"]' in told
    assert "agent_error" in told
