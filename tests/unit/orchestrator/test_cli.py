from __future__ import annotations

import io
import json
from pathlib import Path

import click
import pytest

from conversations.errors import (
    ConversationNotFound,
    ConversationStoreUnavailable,
    InvalidHistory,
)
from orchestrator.agent_config import AgentConfig, AgentHealth, AgentInfo
from orchestrator.cli.agents import _described
from orchestrator.cli.connection import announce_url
from orchestrator.cli.conversations import LONGEST_LINE_BYTES, text_of
from orchestrator.cli.exit_codes import Unavailable, exit_code_of
from orchestrator.cli.flower import check_closed, check_logins
from orchestrator.cli.group import celeriac, run
from orchestrator.cli.options import duration, json_object
from orchestrator.cli.processes import require_our_packages, storage_environment
from orchestrator.cli.setting_rows import setting_rows
from orchestrator.cli.submit import read_input
from orchestrator.cli.up import _announced, _Fleet
from orchestrator.embedded import RedisServer
from orchestrator.errors import (
    AgentNotFound,
    InvalidSettings,
    QueueUnavailable,
    StoreUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    WaitTimeout,
)
from orchestrator.settings import load_settings
from orchestrator.task import Task, TaskFailure, TaskStatus
from tests.unit.orchestrator.settings_files import write

COMMANDS = celeriac.list_commands(click.Context(celeriac))


def test_help_names_every_command_and_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for expected in (*COMMANDS, "124  the wait timed out", "69   no Redis"):
        assert expected in shown


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "double"])
def test_every_command_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: celeriac {name}" in capsys.readouterr().out


def test_what_a_decision_does_stands_in_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["resolve", "--help"]) == 0
    assert "\n  run    it was not done: do it\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["submit"], "Missing argument 'AGENT'; see: celeriac submit --help"),
        (["submit", "a", "{oops"], "INPUT: not JSON"),
        (["submit", "a", "  "], "INPUT: empty; give text"),
        (["submit", "a", "b", "--timeout", "5x"], "'--timeout': not a duration ('5x')"),
        (["submit", "a", "b", "--metadata", "[]"], "'--metadata': JSON, but a list"),
        (["tasks", "--tenant", "a b"], "tenant: must be 1 to 64"),
        (["tasks", "--limit", "0"], "'--limit'"),
        (["tasks", "--status", "done"], "'--status'"),
        (["flower", "--address", "0.0.0.0"], "open to everybody"),  # noqa: S104
        (["flower", "--", "--address=0.0.0.0"], "give it before `--`"),
        (["demo", "--documents", "nowhere"], "'nowhere' does not exist"),
        (["demo"], "no text files at README.md or docs"),
    ],
)
def test_what_cannot_be_taken_is_one_line_and_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("celeriac: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_each_problem_of_the_settings_gets_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("celeriac.yaml").write_text("lmm: 1\ntenant: a b\n")
    assert run(["config"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1] == "celeriac: lmm: unknown key; did you mean llm?"


@pytest.mark.parametrize("name", ["tasks", "agents", "conversations list", "show x"])
def test_without_redis_reading_ends_with_69(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere/redis.sock")
    assert run(name.split()) == 69
    assert capsys.readouterr().err.count("\n") == 1


def test_an_agent_is_told_with_the_share_of_its_runs_that_failed() -> None:
    health = AgentHealth(successes=3, failures=1)
    told = _described(AgentInfo(config=AgentConfig(name="a"), health=health))
    assert told["failure_rate"] == 0.25
    assert json.loads(json.dumps(told))["health"]["failures"] == 1


def test_errors_have_documented_exit_codes() -> None:
    task = Task(agent_name="a", status=TaskStatus.CANCELLED)
    assert exit_code_of(TaskCancelled(task)) == 1
    assert exit_code_of(AgentNotFound("a")) == 2
    assert exit_code_of(TaskNotFound("a")) == 2
    assert exit_code_of(ConversationNotFound("a")) == 2
    assert exit_code_of(InvalidSettings(["a"])) == 2
    assert exit_code_of(StoreUnavailable("a")) == 69
    assert exit_code_of(QueueUnavailable("a")) == 69
    assert exit_code_of(ConversationStoreUnavailable("a")) == 69
    assert exit_code_of(Unavailable("a")) == 69
    assert exit_code_of(WaitTimeout("a")) == 124


def test_input_is_text_or_a_json_object_with_documents() -> None:
    assert read_input(" How? ", []) == {"query": "How?"}
    assert read_input(' {"text": "x"}', []) == {"text": "x"}
    assert read_input("How?", ["docs"]) == {"query": "How?", "documents": ["docs"]}


def test_option_values_are_read() -> None:
    assert duration("5m") == 300.0
    assert json_object('{"a": 1}') == {"a": 1}
    with pytest.raises(click.BadParameter, match="not JSON"):
        json_object("[" * 100_000)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_flower_listens_on_loopback_without_a_login(address: str) -> None:
    check_closed(address, has_login=False)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "10.0.0.1", "host"])  # noqa: S104
def test_flower_wants_a_login_on_any_other_address(address: str) -> None:
    check_closed(address, has_login=True)
    with pytest.raises(click.BadParameter, match="FLOWER_BASIC_AUTH"):
        check_closed(address, has_login=False)


def test_logins_of_flower_are_taken() -> None:
    check_logins("ann:secret,bob:pass:word")


@pytest.mark.parametrize("logins", ["secret", "ann:", ":secret", "a:a,secret", "a:b,"])
def test_a_login_that_flower_would_let_nobody_in_with_is_refused(logins: str) -> None:
    with pytest.raises(click.BadParameter, match="is no user:password") as refused:
        check_logins(logins)
    assert "secret" not in refused.value.message


def test_shown_settings_hold_no_secret_and_name_their_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@host/1")
    monkeypatch.setenv("CELERIAC_LLM__HEADERS", '{"X-Key": "secret"}')
    rows = {row.path: row for row in setting_rows(load_settings())}
    assert not [row for row in rows.values() if "secret" in row.value]
    assert rows["storage.redis_url"].value == "redis://:***@host/1"
    assert rows["llm.api_key"][1:] == ("(set)", "environment (OPENAI_API_KEY)")
    assert rows["llm.headers.X-Key"].value == "(set)"
    assert rows["services.agent_manager.task_timeout"][1:] == ("5m", "default")
    assert json.loads(rows["agents.researcher"].value)["kind"] == "researcher"


DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("page", ["http", "llm-endpoint", "run-control"])
def test_settings_as_the_documents_give_them_can_be_shown(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text().replace("sha256:…", f"sha256:{'0' * 64}")
    blocks = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    settings = [each for each in blocks if not each.startswith("- ")]
    assert settings
    for block in settings:
        shown = {
            row.path: row.value for row in setting_rows(load_settings(write(block)))
        }
        ends_at = shown.get("http.keys.reporting.expires_at")
        assert ends_at in (None, "2027-01-01T00:00:00Z")


def test_config_writes_json_and_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"path", "value", "source"} == set(rows[0])
    assert run(["config", "--schema"]) == 0
    assert "services" in json.loads(capsys.readouterr().out)["properties"]


def test_children_get_the_same_redis_and_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings(storage={"redis_url": "unix:///a/b", "broker_url": None})
    for name, value in storage_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://other//")
    assert load_settings().storage == settings.storage


@pytest.mark.parametrize("name", COMMANDS)
def test_the_documentation_names_every_command(name: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "cli.md"
    assert f"`celeriac {name}" in page.read_text()


def test_shell_completion_knows_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_CELERIAC_COMPLETE", "bash_source")
    with pytest.raises(SystemExit):
        run([])
    assert "complete -o nosort" in capsys.readouterr().out


def test_up_needs_a_store_that_processes_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("celeriac.yaml").write_text("storage: {backend: memory}")
    assert run(["up"]) == 2
    assert "storage.backend: memory" in capsys.readouterr().err
    assert not Path(".celeriac").exists()


def test_an_up_on_a_given_redis_leaves_the_address_of_another_alone(
    tmp_path: Path,
) -> None:
    announce_url(tmp_path, "unix:///run/other.sock")
    with _announced(RedisServer("redis://given", "configured", ""), tmp_path):
        pass
    assert (tmp_path / "redis.url").read_text() == "unix:///run/other.sock"
    with _announced(RedisServer("unix:///own", "redis-server", ""), tmp_path):
        assert (tmp_path / "redis.url").read_text() == "unix:///own"
    assert not (tmp_path / "redis.url").exists()


def test_an_import_stops_reading_a_line_that_is_too_long_for_any_message() -> None:
    class Endless(io.RawIOBase):
        """A file without a line end, as a disk image piped in by mistake."""

        read_bytes = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            self.read_bytes += len(buffer)
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    source = Endless()
    with pytest.raises(InvalidHistory, match="line 1 has more than"):
        list(text_of(io.BufferedReader(source, 2**20)))
    assert source.read_bytes <= LONGEST_LINE_BYTES + 2**21


def test_an_import_takes_a_byte_order_mark_and_names_what_is_no_utf8() -> None:
    lines = text_of(io.BytesIO(b"\xef\xbb\xbfa\r\nb\n"))
    assert [line.strip() for line in lines] == ["a", "b"]
    with pytest.raises(InvalidHistory, match=r"line 2 is no UTF-8 text \(byte 3\)"):
        list(text_of(io.BytesIO(b"a\nbc\xff")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_an_address_that_finds_no_room_is_named_and_leaves_no_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "redis.url").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as error:
        announce_url(tmp_path, "unix:///x")
    assert error.value.filename == str(tmp_path / "redis.url")
    assert not (tmp_path / "redis.url").is_symlink()


@pytest.mark.parametrize("name", ["workers/__init__.py", "orchestrator.py"])
@pytest.mark.parametrize("command", ["up", "worker", "http", "demo"])
def test_a_package_that_hides_ours_is_named(
    name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    Path("docs").mkdir()
    Path("docs/a.md").write_text("# A\n\nText.\n")
    Path("celeriac.yaml").write_text("storage: {backend: memory}")
    assert run([command]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{Path(name).absolute()} hides Celeriac's package" in told


def test_our_own_checkout_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    require_our_packages()


def test_an_error_is_one_line_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = TaskFailure(code="agent_error", message="a\nb\x1b[31m\x9bc", attempt=1)
    task = Task(agent_name="a").model_copy(
        update={"status": TaskStatus.FAILED, "failure": failure}
    )

    def fail(*_: object, **__: object) -> None:
        raise TaskFailed(task)

    monkeypatch.setattr(celeriac, "main", fail)
    assert run(["submit", "a", "b"]) == 1
    told = f"celeriac: task {task.id} failed (agent_error): a b\\x1b[31m\\x9bc\n"
    assert capsys.readouterr().err == told


def test_up_gives_its_workers_all_modules() -> None:
    fleet = _Fleet(
        workers=1,
        concurrency=None,
        modules=("a", "b"),
        flower=False,
        flower_port=1,
        http=False,
    )
    options = fleet.commands()["worker-1"]
    # Celery takes the last -I alone.
    assert options.count("-I") == 1
    assert options[options.index("-I") + 1] == "a,b"
