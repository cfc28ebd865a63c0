"""Where records live and where the doorbell rings, as it is set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, SecretStr

from orchestrator.redis_url import check_redis_url, for_kombu, redact, servers_in
from orchestrator.settings_section import Section


def _redis_url(secret: SecretStr) -> SecretStr:
    return SecretStr(check_redis_url(secret.get_secret_value()))


def _broker_url(secret: SecretStr) -> SecretStr:
    servers = servers_in(secret.get_secret_value())
    if any("://" not in url for url in servers):
        raise ValueError("must be a broker URL such as redis://host:6379/0")
    checked = (
        check_redis_url(url) if url.startswith(("redis", "unix")) else url
        for url in servers
    )
    return SecretStr(";".join(checked))


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]


class StorageSettings(Section):
    """Where records live and where the doorbell rings."""

    backend: Literal["redis", "memory"] = "redis"
    """`memory` keeps everything in the process that runs it; nothing survives it."""
    redis_url: RedisUrl = SecretStr("redis://localhost:6379/0")
    """The store: redis://, rediss:// or unix:///path."""
    broker_url: BrokerUrl | None = None
    """Celery's broker; null uses redis_url."""

    @property
    def kombu_url(self) -> str:
        """The broker as Celery wants it. Secret: it may hold a password."""
        return for_kombu((self.broker_url or self.redis_url).get_secret_value())

    @property
    def broker_is_store(self) -> bool:
        """Whether Celery's queues lie in the store's own Redis."""
        return self.broker_url is None or self.kombu_url == for_kombu(
            self.redis_url.get_secret_value()
        )

    @property
    def redacted_redis_url(self) -> str:
        """`redis_url` for logs and messages."""
        return redact(self.redis_url.get_secret_value())

    @property
    def redacted_broker_url(self) -> str:
        """The broker for logs and messages."""
        return redact((self.broker_url or self.redis_url).get_secret_value())
