"""`celeriac demo`: the whole system at work, then gone without a trace."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import configured_url, run_async
from orchestrator.cli.demo_documents import (
    DEFAULT_PATHS,
    NamedText,
    pick_sections,
    read_documents,
)
from orchestrator.cli.demo_report import print_answer, print_summaries, print_totals
from orchestrator.cli.demo_stack import open_endpoint, open_stack
from orchestrator.cli.endpoint_report import EndpointReport
from orchestrator.cli.live import follow
from orchestrator.cli.processes import require_our_packages
from orchestrator.embedded import RedisServer, open_redis
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.plain_text import one_line, told
from orchestrator.settings import load_settings
from orchestrator.task import TaskStatus
from orchestrator.task_handle import AsyncTaskHandle

_QUESTION = "How does the sweeper find what is due after a lost message?"
_SUMMARIES = 20
_RESEARCHER, _SUMMARIZER = "researcher", "summarizer"


@click.command("demo", epilog=exit_codes.EXPLAINED)
@click.option("--question", default=_QUESTION, show_default=True)
@click.option(
    "--documents",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Files or folders to work on; README.md and docs/ here by default.",
)
def command(question: str, paths: Sequence[Path]) -> int:
    """Show real agents at work: research with citations and a batch of summaries.

    Brings up a Redis, a worker and, when no endpoint answers, a scripted one that
    calls no model; stops them all at the end.
    """
    settings = load_settings()
    settings.services.require_agent_manager()
    require_our_packages()
    documents = read_documents(paths or DEFAULT_PATHS)
    sections = pick_sections(documents, count=_SUMMARIES)
    demo = _demo(question, documents, sections, url=configured_url(settings))
    return run_async(demo, farewell="stopping")


async def _demo(
    question: str,
    documents: Sequence[NamedText],
    sections: Sequence[NamedText],
    *,
    url: str | None,
) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-demo-") as name,
        open_redis(Path(name), url=url) as redis,
    ):
        log = Path(name) / "worker.log"
        _announce_redis(redis)
        async with open_endpoint() as (report, environment):
            _announce_endpoint(report)
            started = monotonic()
            agents = (_RESEARCHER, _SUMMARIZER)
            async with open_stack(redis, agents, environment, log) as orchestrator:
                click.echo(f"Worker    ready after {monotonic() - started:.1f} s")
                code = await _work(
                    orchestrator, question, documents, sections, report=report
                )
    click.echo("Everything that was started has been stopped.")
    return code


def _announce_redis(redis: RedisServer) -> None:
    click.secho("Celeriac demo", bold=True)
    click.echo(f"Redis     {redis}")
    if redis.warning:
        click.secho(f"          WARNING: {redis.warning}", fg="yellow")


def _announce_endpoint(report: EndpointReport) -> None:
    if report.usable:
        click.echo(f"Endpoint  {told(report)}: it answers and is used")
        by = "this is a scripted endpoint, whose script answers."
    else:
        click.echo(f"Endpoint  {told(f'{report} cannot be used: {report.remedy}')}")
        by = "a scripted endpoint stands in, which quotes the documents."
    if report.is_double or not report.usable:
        click.secho(f"          NO MODEL IS CALLED: {by}", fg="yellow", bold=True)


async def _work(
    orchestrator: AsyncOrchestrator,
    question: str,
    documents: Sequence[NamedText],
    sections: Sequence[NamedText],
    *,
    report: EndpointReport,
) -> int:
    scripted = report.is_double or not report.usable
    started = monotonic()
    handles = await _submit(orchestrator, question, documents, sections)
    click.echo(
        f"Tasks     one question about {len(documents)} documents,"
        f" {len(sections)} summaries\n\nQuestion  {question}\n"
    )
    names = [section.name for section in sections]
    labels = ["research", *(one_line(name, limit=44) for name in names)]
    ids = [handle.id for handle in handles]
    await follow(handles, dict(zip(ids, labels, strict=True)), console=Console())
    seconds = monotonic() - started
    tasks = [await handle.get() for handle in handles]
    events = [event async for event in handles[0].events()]
    print_answer(tasks[0], events, scripted=scripted)
    print_summaries(tasks[1:], names, scripted=scripted)
    print_totals(tasks, scripted=scripted, seconds=seconds)
    completed = all(task.status is TaskStatus.COMPLETED for task in tasks)
    return exit_codes.OK if completed else exit_codes.TASK_FAILED


async def _submit(
    orchestrator: AsyncOrchestrator,
    question: str,
    documents: Sequence[NamedText],
    sections: Sequence[NamedText],
) -> Sequence[AsyncTaskHandle]:
    research = {
        "agent": _RESEARCHER,
        "input": {
            "query": question,
            "documents": [document._asdict() for document in documents],
        },
    }
    summaries = [
        {"agent": _SUMMARIZER, "input": {"document": section._asdict()}}
        for section in sections
    ]
    return await orchestrator.submit_many([research, *summaries])
