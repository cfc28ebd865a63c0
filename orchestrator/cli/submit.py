"""`celeriac submit`: one task from the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.encoding import standard_input
from orchestrator.cli.moment import Moment
from orchestrator.cli.options import duration, json_object, tenant_option
from orchestrator.cli.output import (
    echo_json,
    json_option,
    quiet_the_log_of_warnings,
    say_what_is_awaited,
)
from orchestrator.cli.waiting import wait_and_print
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.plain_text import told
from orchestrator.task import WhenBusy
from orchestrator.task_handle import AsyncTaskHandle


@click.command("submit", epilog=exit_codes.EXPLAINED)
@click.argument("agent")
@click.argument("text", metavar="INPUT", default="-")
@click.option(
    "-d",
    "--document",
    "documents",
    multiple=True,
    metavar="PATH",
    help="A file or folder to work on; may be repeated.",
)
@click.option("--detach", is_flag=True, help="Print the id and do not wait.")
@click.option("--timeout", type=duration, help="How long to wait; the task goes on.")
@click.option("--parameters", type=json_object, help="How the agent works.")
@click.option("--context", type=json_object, help="Facts for the agent's tools.")
@click.option("--metadata", type=json_object, help="Your facts about the task.")
@click.option(
    "--conversation",
    "conversation_id",
    metavar="ID",
    help="The conversation to continue.",
)
@click.option(
    "--when-busy",
    type=click.Choice(get_args(WhenBusy)),
    help="What to do when the conversation is busy.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same key and request return the same task.",
)
@click.option("--priority", type=click.IntRange(0, 9), help="9 is most urgent.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="May be repeated.")
@click.option(
    "--not-before",
    type=Moment(ahead=True),
    help="Earliest start: 2030-01-31T08:00 (local without +01:00), or 2h from now.",
)
@click.option("--expires", type=duration, help="Longest wait for its start.")
@click.option("--deadline", type=duration, help="Longest time until its end.")
@click.option("--soft-time-limit", type=duration, help="When it must wrap up.")
@click.option("--time-limit", type=duration, help="When it is ended.")
@click.option("--webhook", metavar="URL", help="Where its end is told.")
@click.option("--cache-ttl", type=duration, help="Share the answer for so long.")
@tenant_option
@json_option
def command(
    agent: str,
    text: str,
    documents: Sequence[str],
    detach: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit a task for AGENT and follow it to its answer.

    INPUT is a JSON object, or text that becomes {"query": text}; without it, or with
    "-", it is read from standard input. Ctrl-C ends the waiting, not the task.
    """
    if text == "-":
        say_what_is_awaited("the input")
        text = standard_input()
    data = read_input(text, documents)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if detach:
        return run_async(_detached(agent, data, given, as_json=as_json))
    return run_async(
        _followed(agent, data, given, timeout_seconds=timeout, as_json=as_json)
    )


def read_input(text: str, documents: Sequence[str]) -> dict[str, Any]:
    """Return the task's input that text and documents stand for."""
    data: dict[str, Any] = {"query": text.strip()}
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as exc:
            reason = getattr(exc, "msg", "too deeply nested")
            raise click.BadParameter(
                f"not JSON ({reason}); correct it, or send text that does not start"
                " with '{'",
                param_hint="INPUT",
            ) from None
    elif not text.strip():
        raise click.BadParameter(
            "empty; give text, a JSON object or standard input", param_hint="INPUT"
        )
    return {**data, "documents": list(documents)} if documents else data


async def _detached(
    agent: str, data: dict[str, Any], options: dict[str, Any], *, as_json: bool
) -> int:
    async with open_orchestrator() as orchestrator:
        handle = await _accepted(orchestrator, agent, data, options)
        if as_json:
            echo_json(await handle.get())
        else:
            click.echo(handle.id)
    return exit_codes.OK


async def _followed(
    agent: str,
    data: dict[str, Any],
    options: dict[str, Any],
    *,
    timeout_seconds: float | None,
    as_json: bool,
) -> int:
    async with open_orchestrator() as orchestrator:
        handle = await _accepted(orchestrator, agent, data, options)
        click.echo(f"task {handle.id} is accepted", err=True)
        return await wait_and_print(
            handle, timeout_seconds=timeout_seconds, as_json=as_json
        )


async def _accepted(
    orchestrator: AsyncOrchestrator,
    agent: str,
    data: dict[str, Any],
    options: dict[str, Any],
) -> AsyncTaskHandle:
    quiet_the_log_of_warnings()
    handle = await orchestrator.submit(agent, data, **options)
    if handle.warning:
        click.echo(f"celeriac: {told(handle.warning)}", err=True)
    return handle
