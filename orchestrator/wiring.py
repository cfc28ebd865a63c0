"""Which concrete classes an orchestrator gets for given settings."""

from __future__ import annotations

from conversations.errors import InvalidRequest
from conversations.redaction import Redact, load_redact
from conversations.redis_store import RedisConversationStore
from conversations.service import ConversationService
from conversations.store import ConversationStore
from conversations.stored_service import (
    ConversationDefaults,
    StoredConversationService,
)
from orchestrator import redis_keys
from orchestrator.celery_settings import celery_settings
from orchestrator.doorbell_message import doorbell_message
from orchestrator.errors import InvalidSettings
from orchestrator.parts import OrchestratorParts
from orchestrator.queue import CeleryTaskQueue
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import UntypedRedis
from orchestrator.redis_connection import connect as connect_redis
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_pipeline import SharedPipeline
from orchestrator.redis_store import RedisTaskStore
from orchestrator.request import Defaults
from orchestrator.settings import Settings
from orchestrator.store_limits import hidden_ttl_seconds

RENEWAL_MARGIN_SECONDS = 1.0
"""For a heartbeat to notice that Redis is back, beyond its own period."""


def connect(settings: Settings) -> OrchestratorParts:
    """Return parts on the Redis and the broker of the settings; sends nothing yet.

    Raises:
        InvalidSettings: they are something else, or their storage backend lives in
            one process only.
        StoreUnavailable: the Redis URL cannot be read.
    """
    if not isinstance(settings, Settings):
        raise InvalidSettings(
            [
                f"settings: must be Settings (got {type(settings).__name__}); make them"
                ' by load_settings(storage={"redis_url": …}), or set REDIS_URL'
            ]
        )
    if settings.storage.backend == "memory":
        raise InvalidSettings(
            [
                "storage.backend: 'memory' keeps everything in one process; set it to"
                " 'redis', or use workers.in_process.open_orchestrator()"
            ]
        )
    client = connect_redis(settings.storage.redis_url.get_secret_value())
    return OrchestratorParts(
        store=_task_store(client, settings),
        queue=CeleryTaskQueue(
            celery_settings(settings),
            shown_url=settings.storage.redacted_broker_url,
        ),
        directory=RedisAgentDirectory(client),
        conversations=conversation_service(
            settings,
            RedisConversationStore(
                client,
                execute=SharedPipeline(client).execute,
                awaited_key=redis_keys.turns,
            ),
        ),
        conversation_config=settings.services.conversations.conversation_config,
        agents=settings.agents,
        defaults=defaults_of(settings),
        gate=RedisGate(client),
        budget=RedisBudget(client),
        toll=RedisToll(client),
        budgets=settings.budgets,
        llm=settings.llm,
        agent_manager_enabled=settings.services.agent_manager.enabled,
    )


def _task_store(client: UntypedRedis, settings: Settings) -> RedisTaskStore:
    return RedisTaskStore(
        client,
        result_ttl_seconds=settings.retention.result_ttl,
        delta_ttl_seconds=settings.retention.delta_ttl,
        idempotency_ttl_seconds=settings.retention.idempotency_ttl,
        max_crashes=settings.worker.max_crashes,
        renewal_seconds=settings.worker.heartbeat + RENEWAL_MARGIN_SECONDS,
        known_agents=frozenset(settings.agents),
        conversation_config=settings.services.conversations.conversation_config,
        redact=redact_of(settings),
        doorbell_message=(
            doorbell_message() if settings.storage.broker_is_store else None
        ),
    )


def conversation_service(
    settings: Settings, store: ConversationStore
) -> ConversationService | None:
    """Return the service on a store, or None when it is switched off."""
    section = settings.services.conversations
    if not section.enabled:
        return None
    return StoredConversationService(
        store,
        client_roles=section.client_roles,
        redact=redact_of(settings),
        defaults=ConversationDefaults(
            tenant=settings.tenant,
            config=section.conversation_config,
            hidden_ttl_seconds=hidden_ttl_seconds(settings.retention.result_ttl),
        ),
        max_message_bytes=settings.limits.max_message_bytes,
    )


def redact_of(settings: Settings) -> Redact | None:
    """Return the redaction hook, if one is named.

    Raises:
        InvalidSettings: it cannot be imported.
    """
    try:
        return load_redact(settings.services.conversations.redact)
    except InvalidRequest as exc:
        raise InvalidSettings([f"services.conversations.{exc}"]) from exc


def defaults_of(settings: Settings) -> Defaults:
    """Return what requests take where they say nothing."""
    manager = settings.services.agent_manager
    return Defaults(
        tenant=settings.tenant,
        soft_time_limit_seconds=manager.task_timeout,
        time_limit_grace_seconds=manager.time_limit_grace,
        max_input_bytes=settings.limits.max_input_bytes,
        max_message_bytes=settings.limits.max_message_bytes,
        client_roles=settings.services.conversations.client_roles,
        webhooks_allowed=settings.webhooks.allowed,
    )
