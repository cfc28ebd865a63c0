"""`celeriac chat`: a talk with an agent in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import click

from conversations.errors import ConversationError, ConversationNotFound
from orchestrator.chat import IN_PIECES, AsyncChat
from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import quiet_the_log_of_warnings
from orchestrator.errors import (
    OrchestratorError,
    TaskEndedWithoutResult,
)
from orchestrator.events import EventType, TaskEvent
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.plain_text import one_line, plain, told
from orchestrator.settings import load_settings
from orchestrator.task import WhenBusy
from orchestrator.task_handle import AsyncTaskHandle

_ARGUMENTS_SHOWN = 60
_READ_BYTES = 65_536


@click.command("chat", epilog=exit_codes.EXPLAINED)
@click.argument("agent")
@click.option(
    "-c",
    "--conversation",
    "conversation_id",
    metavar="ID",
    help="The conversation to continue; a new one by default.",
)
@click.option(
    "--when-busy",
    type=click.Choice(get_args(WhenBusy)),
    help="What to do when the conversation is busy.",
)
@tenant_option
def command(agent: str, conversation_id: str | None, **options: Any) -> int:
    """Talk with AGENT, one line a question.

    Answers and tool calls are shown as they arrive. Ctrl-C ends the turn and keeps the
    talk; at the prompt, Ctrl-C or Ctrl-D ends the talk. Lines may come from a pipe.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return run_async(_talk(agent, conversation_id, {**given, "parameters": IN_PIECES}))


async def _talk(
    agent: str, conversation_id: str | None, options: dict[str, Any]
) -> int:
    settings = load_settings()
    tenant = options.get("tenant") or settings.tenant
    quiet_the_log_of_warnings()
    async with open_orchestrator(settings) as orchestrator:
        await _check_known(orchestrator, agent)
        chat = orchestrator.chat(agent, conversation_id)
        await _greet(orchestrator, chat, tenant)
        code = exit_codes.OK
        with _on_interrupt() as interrupted:
            async for line in _lines(interrupted):
                code = await _turn(chat, line, options, interrupted)
    click.echo(
        f"continue with: celeriac chat {agent} --conversation {chat.conversation_id}",
        err=True,
    )
    return exit_codes.OK if sys.stdin.isatty() else code


async def _check_known(orchestrator: AsyncOrchestrator, agent: str) -> None:
    """Say before the first question what a submit would say of an unknown agent."""
    if await orchestrator.workers():  # what they serve is known then
        await orchestrator.agent(agent)


async def _greet(orchestrator: AsyncOrchestrator, chat: AsyncChat, tenant: str) -> None:
    try:
        head = await orchestrator.conversations.get(chat.conversation_id, tenant=tenant)
    except ConversationNotFound:
        known = "new"
    else:
        known = f"{head.message_count} messages"
    click.echo(f"conversation {chat.conversation_id} ({known})", err=True)


async def _lines(interrupted: asyncio.Event) -> AsyncIterator[str]:
    """Yield what is typed, until the end of input or Ctrl-C at the prompt."""
    prompt = "> " if sys.stdin.isatty() else ""
    rest, is_over = b"", False
    while not is_over:
        if b"\n" not in rest:
            interrupted.clear()  # what came too late for the turn ends no talk
            click.echo(prompt, nl=False, err=True)
        while b"\n" not in rest and not is_over:
            typed = await _read(interrupted)
            rest += typed
            is_over = not typed
        line, _, rest = rest.partition(b"\n")
        if text := line.decode("utf-8", "replace").strip():
            yield text
    if prompt:
        click.echo(err=True)  # the shell's prompt gets a line of its own


async def _read(interrupted: asyncio.Event) -> bytes:
    """Read what has been typed; nothing at the end of input or on Ctrl-C."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # a regular file, which is always readable
        return os.read(descriptor, _READ_BYTES)
    waits = [asyncio.ensure_future(each.wait()) for each in (readable, interrupted)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(descriptor)
    for wait in waits:
        wait.cancel()
    return b"" if interrupted.is_set() else os.read(descriptor, _READ_BYTES)


async def _turn(
    chat: AsyncChat, line: str, options: dict[str, Any], interrupted: asyncio.Event
) -> int:
    """Ask one question and show its turn; what goes wrong ends the turn alone."""
    try:
        handle = await chat.submit(line, **options)
        if handle.warning:
            click.echo(f"celeriac: {told(handle.warning)}", err=True)
        printed = await _watch(handle, interrupted)
        if printed is None:
            click.echo("[no longer watched; it ends by itself]", err=True)
            return exit_codes.TASK_FAILED
        result = await handle.result(timeout=0)
    except TaskEndedWithoutResult as exc:
        click.echo(f"[{told(exc)}]", err=True)
        return exit_codes.TASK_FAILED
    except (OrchestratorError, ConversationError) as exc:
        click.echo(f"celeriac: {told(exc)}", err=True)
        return exit_codes.exit_code_of(exc)
    if not printed:
        click.echo(plain(result.content))
    return exit_codes.OK


async def _watch(handle: AsyncTaskHandle, interrupted: asyncio.Event) -> bool | None:
    """Show a turn to its end; tell whether it said anything.

    Ctrl-C ends the turn; a second one, when that takes long, leaves it: None.
    """
    shown = asyncio.ensure_future(_print_events(handle))
    ending = asyncio.ensure_future(_end_when(interrupted, handle))
    try:
        await asyncio.wait({shown, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():
            await ending
            return None
        return await shown
    finally:
        shown.cancel()
        ending.cancel()


async def _end_when(interrupted: asyncio.Event, handle: AsyncTaskHandle) -> None:
    """Return when interrupted twice, or when the end cannot be asked for."""
    await interrupted.wait()
    interrupted.clear()
    click.echo("\n[interrupting this turn; the talk goes on]", err=True)
    await handle.cancel()
    await interrupted.wait()


async def _print_events(handle: AsyncTaskHandle) -> bool:
    """Print a turn as it goes; tell whether it said anything."""
    printed = False
    async for event in handle.events():
        text = event.data.get("delta")
        if event.type is EventType.TEXT_DELTA and isinstance(text, str):
            click.echo(plain(text), nl=False)
            sys.stdout.flush()
            printed = True
        elif event.type is EventType.TEXT_DONE:
            click.echo()
        else:
            _print_step(event)
    return printed


def _print_step(event: TaskEvent) -> None:
    item = event.data.get("item")
    if event.type is EventType.ITEM_ADDED and isinstance(item, dict):
        if item.get("type") == "tool_call":
            shown = json.dumps(item.get("arguments"), ensure_ascii=False)
            arguments = one_line(shown, limit=_ARGUMENTS_SHOWN)
            click.echo(f"  · {one_line(str(item.get('name')))}({arguments})", err=True)
    elif event.type is EventType.ITEM_DONE and isinstance(item, dict):
        if item.get("status") == "incomplete":
            click.echo("\n  · the model was cut off and begins anew", err=True)
        if item.get("error"):
            reason = one_line(str(item.get("output") or item["error"]))
            click.echo(f"  · {reason}", err=True)
    elif event.type is EventType.TASK_STEERED:
        click.echo("  · the agent has your message", err=True)


@contextmanager
def _on_interrupt() -> Iterator[asyncio.Event]:
    """Turn Ctrl-C into an event for as long as the context lasts."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        yield interrupted
    finally:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)
