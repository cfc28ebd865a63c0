"""`python -m workers`: Celery's worker command, its options and its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import click
import pytest
from celery.bin.base import CLIContext
from celery.bin.worker import worker

from workers.__main__ import WorkerCommand, left_to_do
from workers.app import app


def parsed(*arguments: str) -> dict[str, Any]:
    obj = CLIContext(app, no_color=True, workdir=None)
    ctx = WorkerCommand().make_context("workers", list(arguments), obj=obj)
    assert ctx.args == [] or all("=" in each for each in ctx.args)
    return ctx.params


def test_it_has_all_options_of_celery_with_their_defaults_and_help() -> None:
    assert described(WorkerCommand()) == described(worker)
    assert described(worker)


def described(command: Any) -> list[Any]:
    return [
        (each.opts, _default(each), each.help, each.callback, each.is_flag)
        for each in command.params
        if each.opts != ["-A", "--app"]
    ]


def _default(option: Any) -> Any:
    return None if option.name == "pool" else option.default


@pytest.mark.parametrize("arguments", [["-A", "workers"], ["-Amine"], ["--app=mine"]])
def test_another_app_is_refused_with_what_serves_it(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError, match=r"leave -A out.*celery -A APP"):
        parsed(*arguments)


def test_a_variable_that_celery_does_not_know_names_no_app(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_WORKER_APP", "mine")
    obj = CLIContext(app, no_color=True, workdir=None)
    command = WorkerCommand()
    command.make_context("workers", [], obj=obj, auto_envvar_prefix="CELERY_WORKER")


def test_options_reach_celery_as_they_were_given() -> None:
    values = parsed(
        *("-c", "7", "--pool", "solo", "-l", "debug", "-I", "a,b", "-n", "mine@%h"),
        *("--autoscale", "9,3", "--without-gossip", "worker.prefetch_multiplier=2"),
    )
    assert values["concurrency"] == 7
    assert values["pool"].__module__ == "celery.concurrency.solo"
    assert values["loglevel"] == 10
    assert values["include"] == ["a", "b"]
    assert values["hostname"].startswith("mine@")
    assert values["autoscale"] == (9, 3)
    assert values["without_gossip"]
    assert not values["without_mingle"]


def test_without_a_choice_the_pool_is_ours() -> None:
    assert parsed()["pool"] is None
    assert app.conf.worker_pool == "workers.pool:AsyncPool"


@pytest.mark.parametrize(
    "arguments", [["-EP", "prefork"], ["-Pprefork"], ["--pool", "prefork"]]
)
def test_prefork_is_a_choice_however_it_is_written(arguments: list[str]) -> None:
    """Celery takes it for its own default, which settings overrule."""
    assert parsed(*arguments)["pool"].__module__ == "celery.concurrency.prefork"


def test_prefork_may_be_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_WORKER_POOL", "prefork")
    obj = CLIContext(app, no_color=True, workdir=None)
    ctx = WorkerCommand().make_context(
        "workers", [], obj=obj, auto_envvar_prefix="CELERY_WORKER"
    )
    assert ctx.params["pool"].__module__ == "celery.concurrency.prefork"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nope"], "--nope"),
        (["-c", "many"], "non-negative integer"),
        (["-P", "nope"], "'nope' is not one of"),
        (["-A", "mine"], "-A"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], said: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parsed(*arguments)
    assert said in refused.value.format_message()
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [["-P", "gevent"], ["-Pgevent"], ["--pool=eventlet"], ["-EP", "eventlet"]],
)
def test_a_pool_whose_library_may_be_missing_is_refused_before_it_is_imported(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "with --pool threads" in line


def test_a_detach_that_the_next_process_would_repeat_is_refused() -> None:
    """Celery takes only the bare option away, and would start itself for ever."""
    ended = subprocess.run(
        [sys.executable, "-m", "workers", "-ED"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("Error: --detach must stand apart")


@pytest.mark.parametrize(
    "line",
    [
        "-D -c 2 --uid=nobody --gid=nogroup -l INFO",
        "-c 2 --uid nobody -l INFO --detach --gid nogroup",
        "-c 2 -l INFO",
    ],
)
def test_a_worker_that_starts_again_becomes_no_user_twice(line: str) -> None:
    """As another user it may not; Celery leaves `nobody` behind as a word."""
    assert left_to_do(line.split()) == ["-c", "2", "-l", "INFO"]


def test_a_user_named_by_the_environment_is_not_become_twice_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_WORKER_UID", "nobody")
    monkeypatch.setenv("CELERY_WORKER_GID", "nogroup")
    monkeypatch.setattr(sys, "argv", ["-mworkers", "-ED"])
    obj = CLIContext(app, no_color=True, workdir=None)
    command = WorkerCommand()
    ctx = command.make_context(
        "workers", ["-ED"], obj=obj, auto_envvar_prefix="CELERY_WORKER"
    )
    with pytest.raises(click.UsageError):
        command.invoke(ctx)
    assert (ctx.params["uid"], ctx.params["gid"]) == ("nobody", "nogroup")
    assert not {"CELERY_WORKER_UID", "CELERY_WORKER_GID"} & set(os.environ)
