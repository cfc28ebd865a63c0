"""Whether a worker can serve, before it takes work: its agents, endpoint and store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

from orchestrator.embedded import redis_version
from orchestrator.errors import StoreUnavailable
from orchestrator.settings import Settings
from orchestrator.shipped_agents import shipped_agents
from orchestrator.wiring import connect
from workers.agent_manager import AgentManager, LocalAgentManager
from workers.extensions import apply_extensions
from workers.llm.governor import Governor
from workers.llm_wiring import open_governor
from workers.own_code import import_modules
from workers.tools.document_summarizer import DocumentSummarizer
from workers.tools.registry import ToolRegistry

logger = logging.getLogger(__name__)

ASK_AGAIN_SECONDS: Final = 0.5

T = TypeVar("T")


def build_manager(settings: Settings, governor: Governor) -> AgentManager:
    """Return a manager with the extensions' agents and the settings'.

    An extension may replace an agent that is shipped; one that is configured wins.

    Raises:
        InvalidAgent: an agent's kind or tool is not known.
    """
    tools = ToolRegistry()
    tools.register(DocumentSummarizer())
    llm = governor.endpoints.default.provider
    strict = settings.services.agent_manager.strict_tools
    manager = LocalAgentManager(llm, tools, governor=governor, strict_tools=strict)
    apply_extensions(manager, tools)
    shipped = shipped_agents().items()
    for name, config in settings.agents.items():
        if name not in manager.names or (name, config) not in shipped:
            manager.register_agent(config)
    return manager


async def check_startup(settings: Settings) -> frozenset[str]:
    """Check that this worker can serve; return the queues of its agents.

    The agents are built once for the check and again where they run.

    Raises:
        ServiceDisabled: the agent manager is switched off.
        InvalidSettings: the storage backend lives in one process only.
        InvalidAgent: an agent or tool cannot be registered.
        InvalidEndpoint: the endpoint's URL, key or headers cannot be used.
        StoreUnavailable: the store does not answer or must not be used.
    """
    settings.services.require_agent_manager()
    parts = connect(settings)
    governor = open_governor(settings, parts)
    try:
        manager = build_manager(settings, governor)
        facts = await _patiently(
            parts.store.check, seconds=settings.worker.store_patience
        )
    finally:
        await parts.aclose()
        await governor.aclose()
    logger.info("store checked", extra={"store": facts})
    return frozenset(info.config.queue for info in manager.list_agents())


def begin(settings: Settings, modules: str | Sequence[str] | None, loader: Any) -> None:
    """Import a project's modules, wait for Redis, before Celery asks for either.

    Raises:
        InvalidAgent: a module cannot be imported.
        StoreUnavailable: Redis does not answer within `worker.store_patience`.
    """
    import_modules(modules, loader.import_task_module)
    if settings.storage.backend != "redis":
        return
    url = settings.storage.redis_url.get_secret_value()
    ask = partial(asyncio.to_thread, redis_version, url)
    asyncio.run(_patiently(ask, seconds=settings.worker.store_patience))


async def _patiently(ask: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Ask again while the store is away for a moment, as a worker at work does.

    A worker that starts while Redis restarts would be missing afterwards. What time
    does not heal, a wrong login say, is told at once.
    """
    give_up_at, told = inf, ""
    while True:
        try:
            return await ask()
        except StoreUnavailable as exc:
            if not exc.may_pass or monotonic() > give_up_at:
                raise
            give_up_at = min(give_up_at, monotonic() + seconds)
            if str(exc) != told:
                told = str(exc)
                logger.warning("%s; waiting %g s for it", told, seconds)
        await asyncio.sleep(ASK_AGAIN_SECONDS)
