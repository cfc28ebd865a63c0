"""`celeriac show`: one task with its steps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.cli.waiting import failure_line, summary
from orchestrator.duration import format_seconds
from orchestrator.journal import MAY_BE_DECIDED, Step
from orchestrator.plain_text import one_line, plain
from orchestrator.task import Task, TaskStatus

_QUESTIONS = {
    "unknown_outcome": "Was this call done?",
    "approval": "May this call be made?",
    "budget_spent": "May more be spent?",
}
"""What is asked of a person, by why it is asked."""


@click.command("show", epilog=exit_codes.EXPLAINED)
@click.argument("task_id")
@tenant_option
@json_option
def command(task_id: str, tenant: str | None, as_json: bool) -> None:
    """Show one task: state, answer, steps, usage."""
    run_async(_show(task_id, tenant=tenant, as_json=as_json))


async def _show(task_id: str, *, tenant: str | None, as_json: bool) -> None:
    async with open_orchestrator() as orchestrator:
        task = await orchestrator.get(task_id, tenant=tenant)
        steps = await orchestrator.steps(task_id, tenant=tenant)
    if as_json:
        listed = [step.model_dump(mode="json") for step in steps]
        echo_json({**task.model_dump(mode="json"), "steps": listed})
        return
    _print_state(task)
    _print_awaited(task)
    _print_steps(steps)
    if task.result:
        click.echo(f"\n{plain(task.result.content)}\n\n{summary(task.result)}")


def _print_state(task: Task) -> None:
    facts = {
        "task": task.id,
        "agent": task.agent_name,
        "status": task.status.value,
        "note": failure_line(task),
        "accepted": task.created_at,
        "started": task.started_at,
        "finished": task.finished_at,
        "attempt": task.attempt,
        "crashes": task.crashes or None,
        "maybe paid": _completions(task.maybe_paid),
        "worker": task.worker,
        "conversation": task.conversation_id,
        "webhook": _webhook(task),
        "input": one_line(str(task.input), limit=200),
    }
    for name, fact in facts.items():
        if fact not in (None, ""):
            click.echo(f"{name:<13}{plain(str(fact))}")


def _webhook(task: Task) -> str | None:
    if task.webhook_delivered_at:
        return f"delivered {task.webhook_delivered_at}"
    if task.webhook_error:
        return f"not delivered in {task.webhook_attempts}: {task.webhook_error}"
    return task.webhook


def _completions(count: int) -> str | None:
    told = "completions asked for again, whose first answers did not arrive"
    return f"{count} {told}" if count else None


def _print_awaited(task: Task) -> None:
    if task.status is not TaskStatus.WAITING:
        return
    for call in task.awaiting:
        arguments = plain(json.dumps(call.arguments, ensure_ascii=False))
        choices = "|".join(MAY_BE_DECIDED[call.reason])
        when = f", begun {call.begun_at}" if call.begun_at else ""
        until = f", refused after {call.expires_at}" if call.expires_at else ""
        click.echo(
            f"\n{_QUESTIONS[call.reason]} {call.tool} {arguments}{when}{until}\n"
            f"  celeriac resolve {task.id} {shlex.quote(plain(call.call_id))} {choices}"
        )


def _print_steps(steps: Sequence[Step]) -> None:
    if steps:
        click.echo()
        echo_table(
            ("step", "kind", "name", "attempt", "time", "tokens"),
            (
                (
                    step.key,
                    step.kind.value,
                    one_line(step.name, limit=40),
                    step.attempt,
                    format_seconds(round(step.seconds, 3)) if step.seconds else "-",
                    step.usage.total_tokens,
                )
                for step in steps
            ),
        )
