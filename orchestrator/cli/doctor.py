"""`celeriac doctor`: is everything here that a task needs, and if not, what helps?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.endpoint_report import ask_endpoint
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.cli.setting_rows import setting_rows
from orchestrator.embedded import broker_version
from orchestrator.errors import StoreUnavailable
from orchestrator.llm_settings import DEFAULT_ENDPOINT
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.plain_text import told
from orchestrator.settings import Settings, load_settings

_STORAGE_SECONDS = 4.0
_START_REDIS = "`celeriac up` starts one here; or set REDIS_URL"
_SCRIPTED = "workers of `celeriac up --scripted` ask the scripted one instead"

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding; `fail` means that tasks cannot be taken or run."""

    name: str
    state: State
    finding: str
    remedy: str = ""


@click.command("doctor", epilog=exit_codes.EXPLAINED)
@json_option
@click.option(
    "--ask", is_flag=True, help="Have each model call a tool (one completion each)."
)
def command(as_json: bool, ask: bool) -> int:
    """Check Redis, broker, workers, agents, the endpoints and the settings.

    Ends with 69 when something is missing that tasks cannot do without.
    """
    settings = load_settings()
    checks = [
        *run_async(_examine(settings, ask=ask)),
        *_service_checks(settings),
        *_settings_checks(settings),
    ]
    rows = list(setting_rows(settings))
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        echo_json(
            {
                "ok": not failed,
                "checks": [asdict(check) for check in checks],
                "settings": [row._asdict() for row in rows],
            }
        )
    else:
        _print(checks)
        echo_table(("setting", "value", "source"), rows)
    return exit_codes.UNAVAILABLE if failed else exit_codes.OK


def _print(checks: Sequence[Check]) -> None:
    for check in checks:
        mark = click.style(
            f"{check.state:<5}",
            fg={"ok": "green", "warn": "yellow", "fail": "red"}[check.state],
        )
        click.echo(f"{mark}{check.name:<10}{told(check.finding)}")
        if check.remedy:
            click.echo(f"{'':<15}→ {told(check.remedy)}")
    click.echo()


async def _examine(settings: Settings, *, ask: bool) -> list[Check]:
    storage, broker, *endpoints = await asyncio.gather(
        _storage_checks(settings),
        asyncio.to_thread(_broker_checks, settings),
        *(_endpoint_checks(name, ask=ask) for name in settings.llm.by_name),
    )
    found = [check for checks in endpoints for check in checks]
    return [*storage, *broker, *found]


async def _storage_checks(settings: Settings) -> list[Check]:
    if settings.storage.backend == "memory":
        return [
            Check(
                "redis",
                "warn",
                "storage.backend is memory: no other process is seen",
                "set storage.backend: redis",
            )
        ]
    try:
        async with (
            asyncio.timeout(_STORAGE_SECONDS),
            open_orchestrator(settings) as orchestrator,
        ):
            store = await _store_check(orchestrator, settings)
            return [store, *await _worker_checks(orchestrator)]
    except StoreUnavailable as exc:
        # What one says that answers and refuses has a remedy of its own.
        return [Check("redis", "fail", str(exc), _START_REDIS if exc.may_pass else "")]
    except TimeoutError:
        finding = f"no answer within {_STORAGE_SECONDS:g} s"
        return [Check("redis", "fail", finding, _START_REDIS)]


async def _store_check(orchestrator: AsyncOrchestrator, settings: Settings) -> Check:
    report = await orchestrator.check()
    durability = report["durability"]
    finding = (
        f"{settings.storage.redacted_redis_url}, version {report['version']},"
        f" durability {durability}"
    )
    if "warnings" in report:
        return Check("redis", "warn", f"{finding}; {report['warnings']}")
    if durability == "none":
        remedy = "set appendonly yes, or tasks are lost when Redis stops"
        return Check("redis", "warn", finding, remedy)
    return Check("redis", "ok", finding)


def _broker_checks(settings: Settings) -> list[Check]:
    """Check a broker that is not the store's Redis."""
    broker_url = settings.storage.broker_url
    if broker_url is None or settings.storage.backend == "memory":
        return []
    url, shown = broker_url.get_secret_value(), settings.storage.redacted_broker_url
    if not url.startswith(("redis", "unix")):
        return [Check("broker", "warn", f"{shown} is no Redis and was not checked")]
    try:
        return [Check("broker", "ok", f"{shown}, version {broker_version(url)}")]
    except StoreUnavailable as exc:
        return [Check("broker", "fail", str(exc), "correct CELERY_BROKER_URL")]


async def _worker_checks(orchestrator: AsyncOrchestrator) -> list[Check]:
    workers = await orchestrator.workers()
    agents = await orchestrator.agents()
    if not workers:
        return [
            Check("workers", "fail", "none is running", "start one: celeriac worker")
        ]
    slots = sum(worker.slots for worker in workers)
    running = sum(worker.running for worker in workers)
    found = Check(
        "workers", "ok", f"{len(workers)} with {slots} slots, {running} in use"
    )
    unserved = [agent.name for agent in agents if not agent.health.served]
    served = [agent.name for agent in agents if agent.health.served]
    if unserved:
        return [
            found,
            Check(
                "agents",
                "warn",
                f"no live worker serves {', '.join(unserved)}",
                "start workers with the settings that name them, and their queues",
            ),
        ]
    return [found, Check("agents", "ok", ", ".join(served))]


async def _endpoint_checks(name: str, *, ask: bool) -> list[Check]:
    report = await ask_endpoint(name=name, try_tools=ask)
    about = str(report) if name == DEFAULT_ENDPOINT else f"{name}: {report}"
    if report.is_double:
        remedy = "set OPENAI_BASE_URL to a real endpoint"
        return [Check("endpoint", "warn", f"{about}: scripted, no model", remedy)]
    if not report.usable:
        # Agents of the other endpoints can run without one that has a name.
        if name != DEFAULT_ENDPOINT:
            return [Check("endpoint", "warn", about, report.remedy)]
        return [Check("endpoint", "fail", about, f"{report.remedy}; {_SCRIPTED}")]
    if not report.advice:
        return [Check("endpoint", "ok", about)]
    return [Check("endpoint", "warn", about, line) for line in report.advice]


def _service_checks(settings: Settings) -> list[Check]:
    """Tell what is switched off; one may well do without conversations."""
    services, found = settings.services, []
    if not services.agent_manager.enabled:
        finding = "agent_manager is disabled: no task is taken and no worker starts"
        remedy = "set services.agent_manager.enabled: true to use it"
        found.append(Check("services", "fail", finding, remedy))
    if not services.conversations.enabled:
        finding = "conversations is disabled: tasks with a conversation are refused"
        remedy = "set services.conversations.enabled: true to use it"
        found.append(Check("services", "warn", finding, remedy))
    if settings.webhooks.allowed and settings.webhooks.secret is None:
        finding = "allowed without a secret: a worker with these settings delivers none"
        remedy = "set CELERIAC_WEBHOOKS__SECRET where the workers run"
        found.append(Check("webhooks", "warn", finding, remedy))
    return found


def _settings_checks(settings: Settings) -> list[Check]:
    if not settings.warnings:
        return [Check("settings", "ok", "valid")]
    return [Check("settings", "warn", warning) for warning in settings.warnings]
