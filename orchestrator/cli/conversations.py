"""`celeriac conversations`: stored histories."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import click
from pydantic import JsonValue

from conversations.errors import ConversationNotFound, InvalidHistory
from conversations.message import StoredMessage
from conversations.service import ConversationService
from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import json_object, tenant_option
from orchestrator.cli.output import (
    ago,
    echo_json,
    echo_table,
    escaped,
    json_option,
    say_what_is_awaited,
)
from orchestrator.plain_text import one_line, plain
from orchestrator.settings import load_settings

LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""Of an import; a larger file without line ends would fill the memory."""

_id_argument = click.argument("conversation_id")
_limit_option = click.option(
    "--limit", default=50, type=click.IntRange(1, 1000), show_default=True
)


@click.group("conversations", epilog=exit_codes.EXPLAINED)
def command() -> None:
    """List, show, export, import, fork and delete conversations."""


@command.command("list")
@_limit_option
@click.option("--cursor", help="Where the page starts, from the page before.")
@click.option("--metadata", type=json_object, help="Only those with these pairs.")
@tenant_option
@json_option
def list_command(
    limit: int,
    cursor: str | None,
    metadata: dict[str, JsonValue] | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """List conversations, newest first."""

    async def listing(service: ConversationService, whose: str) -> None:
        page = await service.list(
            limit=limit, cursor=cursor, metadata=metadata, tenant=whose
        )
        if as_json:
            listed = [item.model_dump(mode="json") for item in page.conversations]
            echo_json({"conversations": listed, "next_cursor": page.next_cursor})
            return
        echo_table(
            ("conversation", "messages", "changed", "metadata"),
            (
                (item.id, item.message_count, ago(item.updated_at), item.metadata or "")
                for item in page.conversations
            ),
        )
        if page.next_cursor:
            click.echo(f"more: the same with --cursor {page.next_cursor}", err=True)

    _with_service(tenant, listing)


@command.command("show")
@_id_argument
@_limit_option
@tenant_option
@json_option
def show_command(
    conversation_id: str, limit: int, tenant: str | None, as_json: bool
) -> None:
    """Show the newest messages of a conversation, oldest first."""

    async def show(service: ConversationService, whose: str) -> None:
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

    _with_service(tenant, show)


@command.command("export")
@_id_argument
@click.option("-o", "--output", metavar="FILE", default="-")
@tenant_option
def export_command(conversation_id: str, output: str, tenant: str | None) -> None:
    """Write a conversation as JSON Lines: the head, then each message."""

    async def export(service: ConversationService, whose: str) -> None:
        with written_whole(output) as file:
            async for line in service.export_lines(conversation_id, tenant=whose):
                file.write(escaped(line))

    _with_service(tenant, export)


@contextmanager
def written_whole(path: str) -> Iterator[IO[str]]:
    """Open a file that takes the place of the one before when all is written.

    Raises:
        BadParameter: it cannot be opened.
    """
    try:
        target = Path(path).resolve()
        is_kept = path == "-" or (target.exists() and not target.is_file())
        aside = target.with_name(f".{target.name}-{token_hex(4)}")
        if is_kept:  # a device, say
            file = click.open_file(path, "w", "utf-8")
        else:
            file = aside.open("x", encoding="utf-8")
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}", param_hint="-o") from None
    if is_kept:
        with file:
            yield file
        return
    try:
        with file:
            yield file
        if target.exists():
            shutil.copymode(target, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@command.command("import")
@click.argument("source", type=click.File("rb"), default="-")
@click.option(
    "--id", "conversation_id", metavar="ID", help="Another id than the exported one."
)
@tenant_option
def import_command(
    source: IO[bytes], conversation_id: str | None, tenant: str | None
) -> None:
    """Create a conversation of an export, from a file or standard input."""
    if source.isatty():
        say_what_is_awaited("or paste the export")

    async def import_(service: ConversationService, whose: str) -> None:
        created = await service.import_lines(
            text_of(source), conversation_id=conversation_id, tenant=whose
        )
        click.echo(created.id)

    _with_service(tenant, import_)


def text_of(source: IO[bytes]) -> Iterator[str]:
    """Return the lines of a file.

    Raises:
        InvalidHistory: one is no UTF-8, or too long to be a message.
    """
    pieces = iter(partial(source.readline, LONGEST_LINE_BYTES + 1), b"")
    for number, line in enumerate(pieces, start=1):
        if len(line) > LONGEST_LINE_BYTES:
            raise InvalidHistory(
                f"line {number} has more than {LONGEST_LINE_BYTES} bytes, which no"
                " message has; give a file with one message a line"
            )
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidHistory(
                f"line {number} is no UTF-8 text (byte {exc.start + 1});"
                " convert the file to UTF-8"
            ) from None


@command.command("fork")
@_id_argument
@click.option("--at", type=int, metavar="N", help="The last message to take over.")
@click.option("--id", "new_id", metavar="ID", help="The id of the new conversation.")
@tenant_option
def fork_command(
    conversation_id: str, at: int | None, new_id: str | None, tenant: str | None
) -> None:
    """Begin a new conversation with the history of another; print its id."""

    async def fork(service: ConversationService, whose: str) -> None:
        created = await service.fork(
            conversation_id, at=at, new_id=new_id, tenant=whose
        )
        click.echo(created.id)

    _with_service(tenant, fork)


@command.command("delete")
@_id_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@tenant_option
def delete_command(conversation_id: str, yes: bool, tenant: str | None) -> int:
    """Delete a conversation with its messages; it cannot be brought back."""

    async def delete(service: ConversationService, whose: str) -> int:
        if not yes and sys.stdin.isatty():
            held = await _what_it_holds(service, conversation_id, whose)
            click.confirm(f"Delete {conversation_id} {held}?", abort=True, err=True)
        if await service.delete(conversation_id, tenant=whose):
            click.echo(f"conversation {conversation_id} is deleted", err=True)
            return exit_codes.OK
        click.echo(f"celeriac: no conversation {conversation_id!r}", err=True)
        return exit_codes.USAGE

    return int(_with_service(tenant, delete))


async def _what_it_holds(
    service: ConversationService, conversation_id: str, whose: str
) -> str:
    try:
        head = await service.get(conversation_id, tenant=whose)
    except ConversationNotFound:
        return "(nothing is stored yet)"  # its first turn may be under way
    return f"with {head.message_count} messages"


def _with_service(tenant: str | None, work: Any) -> Any:
    """Run a coroutine function on the service, for the tenant that is meant."""

    async def main() -> Any:
        settings = load_settings()
        async with open_orchestrator(settings) as orchestrator:
            coroutine: Coroutine[Any, Any, Any] = work(
                orchestrator.conversations, tenant or settings.tenant
            )
            return await coroutine

    return run_async(main())


def _print_message(stored: StoredMessage) -> None:
    message = stored.message
    calls = ", ".join(one_line(call.name) for call in message.tool_calls)
    click.echo(
        f"[{stored.seq}] {message.role.value}{f' calls {calls}' if calls else ''}"
    )
    if message.content:
        click.echo(f"{plain(message.content)}\n")
