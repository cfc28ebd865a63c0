"""The Celery application: `celery -A workers worker`, `celery -A workers flower`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

from celery import Celery

from orchestrator.celery_settings import celery_settings
from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings
from workers.bootstrap import AgentStep
from workers.broker_link import BrokerLink
from workers.refusal import refuse
from workers.task_events import TaskEvents


def _settings() -> Settings:
    try:
        return load_settings()
    except InvalidSettings as exc:
        refuse(exc)


def asks_for_prefork(arguments: Sequence[str]) -> bool:
    """Whether a command line chooses the prefork pool.

    Celery takes that choice for its own default and lets `worker_pool` overrule it
    (`WorkersPool.convert` in celery/bin/worker.py), so it is read here.
    """
    forms = {"-Pprefork", "--pool=prefork"}
    pairs = pairwise(arguments)
    return not forms.isdisjoint(arguments) or any(
        option in ("-P", "--pool") and value == "prefork" for option, value in pairs
    )


app = Celery("celeriac", include=["workers.tasks"], amqp=BrokerLink, events=TaskEvents)
app.config_from_object(celery_settings(_settings()))
if asks_for_prefork(sys.argv):
    app.conf.worker_pool = "prefork"
app.steps["worker"].add(AgentStep)
