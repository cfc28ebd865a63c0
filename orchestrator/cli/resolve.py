"""`celeriac resolve`: decide on what a waiting task asks a person."""

from __future__ import annotations

import json
from typing import Any

import click
from pydantic import JsonValue

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, json_option
from orchestrator.journal import Action


@click.command("resolve", epilog=exit_codes.EXPLAINED)
@click.argument("task_id")
@click.argument("call_id")
@click.argument("decision", type=click.Choice([action.value for action in Action]))
@click.option("--output", help="With done: what the call gave, as JSON or text.")
@click.option("--note", default="", help="Why, for those who read the task later.")
@tenant_option
@json_option
def command(
    task_id: str,
    call_id: str,
    decision: str,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Decide on a call that a waiting task shows (`celeriac show`).

    \b
    done   it was done: go on with --output
    run    it was not done: do it
    fail   end the task

    \b
    Where a call needs approval (named approval:...):
    run     allow it, as it is shown
    refuse  go on without it; the model reads the note
    done    go on with --output instead
    fail    end the task

    \b
    Where the budget is spent (a call named budget:1):
    run    let the task spend its budgets once more
    done   ask for a last answer with what there is
    fail   end the task
    """  # noqa: D301 - click wants the character, not the two
    run_async(
        _resolve(
            (task_id, call_id, Action(decision)),
            as_json=as_json,
            output=_read(output),
            **options,
        )
    )


async def _resolve(
    decided: tuple[str, str, Action],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    async with open_orchestrator() as orchestrator:
        task = await orchestrator.resolve(*decided, **options)
    if as_json:
        echo_json(task)
    else:
        click.echo(f"{task.id}  {task.status.value}")


def _read(output: str | None) -> JsonValue:
    if output is None:
        return None
    try:
        value: JsonValue = json.loads(output)
    except ValueError:
        return output
    return value
