"""`celeriac conversations`: stored histories."""

from __future__ import annotations

import click

from conversations.message import StoredMessage
from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import (
    ago,
    echo_json,
    echo_table,
    json_option,
    plain,
)
from orchestrator.settings import load_settings


@click.group("conversations", epilog=exit_codes.EXPLAINED)
def command() -> None:
    """List conversations, show their messages."""


@command.command("list")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@click.option("--cursor", help="Where the page starts, from the page before.")
@tenant_option
@json_option
def list_command(
    limit: int, cursor: str | None, tenant: str | None, as_json: bool
) -> None:
    """List conversations, newest first."""
    run_async(_list(limit, cursor, tenant, as_json=as_json))


@command.command("show")
@click.argument("conversation_id")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@tenant_option
@json_option
def show_command(
    conversation_id: str, limit: int, tenant: str | None, as_json: bool
) -> None:
    """Show the newest messages of a conversation, oldest first."""
    run_async(_show(conversation_id, limit, tenant, as_json=as_json))


async def _list(
    limit: int, cursor: str | None, tenant: str | None, *, as_json: bool
) -> None:
    settings = load_settings()
    async with open_orchestrator(settings) as orchestrator:
        page = await orchestrator.conversations.list(
            limit=limit, cursor=cursor, tenant=tenant or settings.tenant
        )
    if as_json:
        listed = [item.model_dump(mode="json") for item in page.conversations]
        echo_json({"conversations": listed, "next_cursor": page.next_cursor})
        return
    echo_table(
        ("conversation", "messages", "changed", "metadata"),
        (
            (item.id, item.last_seq, ago(item.updated_at), item.metadata or "")
            for item in page.conversations
        ),
    )
    if page.next_cursor:
        click.echo(
            f"more: celeriac conversations list --cursor {page.next_cursor}", err=True
        )


async def _show(
    conversation_id: str, limit: int, tenant: str | None, *, as_json: bool
) -> None:
    settings = load_settings()
    whose = tenant or settings.tenant
    async with open_orchestrator(settings) as orchestrator:
        service = orchestrator.conversations
        conversation = await service.get(conversation_id, tenant=whose)
        messages = await service.get_messages(
            conversation_id, limit=limit, tenant=whose
        )
    if as_json:
        listed = [message.model_dump(mode="json") for message in messages]
        echo_json({**conversation.model_dump(mode="json"), "messages": listed})
        return
    for message in messages:
        _print_message(message)


def _print_message(stored: StoredMessage) -> None:
    message = stored.message
    calls = ", ".join(call.name for call in message.tool_calls)
    click.echo(
        f"[{stored.seq}] {message.role.value}{f' calls {calls}' if calls else ''}"
    )
    if message.content:
        click.echo(f"{plain(message.content)}\n")
