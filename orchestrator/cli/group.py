"""The `celeriac` command: a table of subcommands and one place for errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

import click

from conversations.errors import ConversationError
from orchestrator.cli import exit_codes
from orchestrator.cli.encoding import show_whatever_is_written, unreadable
from orchestrator.errors import InvalidSettings, OrchestratorError
from orchestrator.plain_text import told

_COMMANDS = {
    "up": "Keep Redis, workers and Flower running on this machine.",
    "demo": "Show real agents at work; needs no Redis and no model.",
    "worker": "Run one worker (`celery worker` with its options).",
    "submit": "Submit a task and follow it to its answer.",
    "watch": "Follow a task to its end.",
    "tasks": "List tasks, newest first.",
    "show": "Show one task: state, answer, steps, usage.",
    "cancel": "Ask for the end of tasks.",
    "resolve": "Decide on what a waiting task asks a person.",
    "retry": "Submit ended tasks again.",
    "schedules": "List schedules, add and remove them.",
    "status": "Show what waits and runs, who works, whether tasks are taken.",
    "agents": "List the agents, who serves them and how they fare.",
    "endpoints": "Show what the models are asked: calls in flight, waits, limits.",
    "chat": "Talk with an agent; continue the talk by its id.",
    "conversations": "List, show, export, import, fork and delete conversations.",
    "http": "Serve the API: OpenAI's shapes, tasks, agents.",
    "api-key": "Make an API key for the HTTP service.",
    "flower": "Watch workers and tasks in the browser.",
    "doctor": "Check Redis, workers, endpoint and settings.",
    "config": "Show the settings, where they come from, their schema.",
    "double": "Serve the scripted endpoint that stands in for a model.",
}


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(
            f"orchestrator.cli.{cmd_name.replace('-', '_')}"
        )
        command: click.Command = module.command
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    epilog=exit_codes.EXPLAINED,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(version("celeriac"), prog_name="celeriac")
def celeriac() -> None:
    """Durable LLM agents on plain Celery and Redis."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code. Errors are one line on stderr."""
    show_whatever_is_written()
    output = sys.stdout
    if problem := unreadable(arguments):
        click.echo(f"celeriac: {problem}", err=True)
        return exit_codes.USAGE
    try:
        result = celeriac.main(
            list(arguments), prog_name="celeriac", standalone_mode=False
        )
    except (click.ClickException, OrchestratorError, ConversationError) as exc:
        return _report(exc)
    except (click.Abort, KeyboardInterrupt):
        return exit_codes.INTERRUPTED
    except OSError as exc:
        if exc.errno is None:  # a timeout of ours that nobody foresaw
            raise
        return _report_system(exc)
    except SystemExit:
        if sys.stdout is not output:  # click wraps it when its reader is gone
            return exit_codes.OK
        raise
    return result if isinstance(result, int) else exit_codes.OK


def _report(error: click.ClickException | OrchestratorError | ConversationError) -> int:
    """Write an error to stderr, one line a problem; return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        click.echo(f"celeriac: {told(_sentence(error))}", err=True)
        return exit_codes.USAGE
    lines = error.problems if isinstance(error, InvalidSettings) else [str(error)]
    for line in lines:
        click.echo(f"celeriac: {told(line)}", err=True)
    return exit_codes.exit_code_of(error)


def _report_system(error: OSError) -> int:
    """Say what the system refused, such as a file on a disk that is full."""
    where = f"{error.filename}: " if error.filename else ""
    with suppress(OSError):  # a terminal that has been closed
        click.echo(
            f"celeriac: {where}{error.strerror};"
            " check the path, its permissions and the room on the disk",
            err=True,
        )
    return exit_codes.USAGE


def _sentence(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text}; see: {context.command_path} --help" if context else text
