"""What is told of a project's modules and extensions that fail at the start."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent_config import AgentConfig
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings, load_settings
from orchestrator.wiring import connect
from workers import extensions
from workers.agent_manager import AgentManager, LocalAgentManager
from workers.errors import InvalidAgent
from workers.extensions import apply_extensions, extend
from workers.llm.scripted import ScriptedLLMProvider
from workers.llm_wiring import open_governor
from workers.own_code import import_modules, place_of
from workers.start_check import build_manager
from workers.tools.registry import ToolRegistry

UNTYPED = "from workers import tool\n\n\n@tool\ndef look(number):\n    return number\n"
CONFIG = (
    "from orchestrator import AgentConfig\n"
    "A = AgentConfig(name='my desk', tool=('x',))\n"
)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Imports from a directory of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_library", r"line 1: ModuleNotFoundError: No module named 'no"),
        ("\n1 / 0", r"line 2: ZeroDivisionError: division by zero; correct it"),
        ("def broken(:", r"line 1: SyntaxError: invalid syntax; correct it"),
        ("raise SystemExit('usage')", r"line 1: SystemExit: usage; correct it"),
        (UNTYPED, r"line 4: tool 'look': parameter 'number' has no type; annotate it$"),
        (CONFIG, r"line 2: .*name: must be 1 to 64 .*tool: unknown key; did you mean"),
        ("import json; json.loads('{')", r"unusable_5a\.py, line 1: JSONDecodeError"),
    ],
)
def test_a_module_that_fails_is_told_with_its_own_line(
    tmp_path: Path, load: Callable[[str], object], text: str, told: str
) -> None:
    (tmp_path / "unusable_5a.py").write_text(text)
    with pytest.raises(InvalidAgent, match=told) as error:
        import_modules(["unusable_5a"], load)
    assert str(error.value).startswith("module 'unusable_5a' (-I): /")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_5a", "there is no module 'no_such_5a' in /"),
        ("no_such_5a.agents", "there is no module 'no_such_5a' in /"),
        ("my_agents.py", "names a file; give the module's name"),
        ("shop/my_agents", "names a file; give the module's name"),
    ],
)
def test_a_module_that_is_not_there_is_told_with_the_remedy(
    load: Callable[[str], object], name: str, told: str
) -> None:
    with pytest.raises(InvalidAgent) as error:
        import_modules(name, load)
    assert told in str(error.value)


def test_several_modules_are_imported(load: Callable[[str], object]) -> None:
    seen: list[str] = []
    import_modules("one,two", seen.append)
    import_modules(["three"], seen.append)
    import_modules(None, seen.append)
    assert seen == ["one", "two", "three"]


def test_the_place_of_an_error_is_in_ones_own_code_where_it_has_a_part() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    assert place_of(raised.value).startswith(f"{__file__}:")
    assert place_of(ValueError("never raised")) is None


def test_the_place_of_an_error_of_a_library_is_there() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    error = raised.value
    trace = error.__traceback__
    assert trace is not None
    assert "json/decoder.py:" in str(place_of(error.with_traceback(trace.tb_next)))


@pytest.fixture
def _no_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_EXTENSIONS", [])


def manager() -> LocalAgentManager:
    return LocalAgentManager(ScriptedLLMProvider(replies=[]), ToolRegistry())


@pytest.mark.usefixtures("_no_extensions")
def test_an_extension_that_takes_other_arguments_is_named_by_its_place() -> None:
    @extend
    def narrow(manager: AgentManager) -> None:
        """Take too little."""

    with pytest.raises(InvalidAgent, match=r"test_own_code\.py, line .*TypeError.* 2"):
        apply_extensions(manager(), ToolRegistry())


async def later(manager: AgentManager, tools: ToolRegistry, name: str = "") -> None: ...


class Later:
    async def __call__(self, manager: AgentManager, tools: ToolRegistry) -> None: ...


@pytest.mark.usefixtures("_no_extensions")
@pytest.mark.parametrize(
    ("extension", "named"),
    [(later, "later"), (partial(later, name="a"), "partial"), (Later(), "Later")],
)
def test_an_extension_that_is_async_is_refused(extension: Any, named: str) -> None:
    with pytest.raises(InvalidAgent, match=rf"'{named}'.*write `def` in place of"):
        extend(extension)


@pytest.mark.usefixtures("_no_extensions")
def test_what_an_extension_refuses_itself_is_told_as_it_says() -> None:
    @extend
    def wrong(manager: AgentManager, tools: ToolRegistry) -> None:
        manager.register_agent(AgentConfig(name="a", tools=("nope",)))

    with pytest.raises(InvalidAgent, match=r"^agent 'a': tools \['nope'\] are not"):
        apply_extensions(manager(), ToolRegistry())


async def built(settings: Settings) -> AgentManager:
    parts: OrchestratorParts = connect(settings)
    governor = open_governor(settings, parts)
    try:
        return build_manager(settings, governor)
    finally:
        await parts.aclose()
        await governor.aclose()


@pytest.mark.usefixtures("_no_extensions", "load")
async def test_an_agent_of_ones_own_takes_the_place_of_a_shipped_one() -> None:
    @extend
    def mine(manager: AgentManager, tools: ToolRegistry) -> None:
        manager.register_agent(AgentConfig(name="assistant", instructions="mine"))

    found = await built(load_settings())
    assert found.get_config("assistant").instructions == "mine"
    assert found.names == ("assistant", "researcher", "summarizer")


@pytest.mark.usefixtures("_no_extensions", "load")
async def test_an_agent_that_is_configured_wins_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @extend
    def mine(manager: AgentManager, tools: ToolRegistry) -> None:
        manager.register_agent(AgentConfig(name="desk", instructions="mine"))

    agents = {"desk": {"instructions": "configured"}}
    found = await built(load_settings(agents=agents))
    assert found.get_config("desk").instructions == "configured"
    assert "agent registered twice" in caplog.text


def test_two_agents_of_one_name_are_warned_of_and_versions_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agents = manager()
    caplog.set_level(logging.WARNING)
    agents.register_agent(AgentConfig(name="a", instructions="one"))
    agents.register_agent(AgentConfig(name="a", instructions="one"))
    agents.register_agent(AgentConfig(name="a", instructions="two", version="2"))
    assert caplog.text == ""
    agents.register_agent(AgentConfig(name="a", instructions="three", version="2"))
    assert "agent registered twice" in caplog.text
    assert agents.get_config("a").instructions == "three"
