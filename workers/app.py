"""The Celery application: `celery -A workers worker`, `celery -A workers flower`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from celery import Celery

from orchestrator.celery_settings import celery_settings
from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings
from workers.bootstrap import AgentStep
from workers.broker_link import BrokerLink
from workers.refusal import refuse
from workers.task_events import TaskEvents

_OPTIONS: Final = ("-P", "--pool")
_VARIABLE: Final = "CELERY_WORKER_POOL"


def _settings() -> Settings:
    try:
        return load_settings()
    except InvalidSettings as exc:
        refuse(exc)


def asks_for_prefork(arguments: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether a command line, or the variable for its option, chooses the prefork pool.

    Celery takes that choice for its own default and lets `worker_pool` overrule it
    (`WorkersPool.convert` in celery/bin/worker.py), so it is read here.
    """
    forms = {"-Pprefork", "--pool=prefork"}
    chosen = {value for option, value in pairwise(arguments) if option in _OPTIONS}
    chosen.add(variables.get(_VARIABLE, ""))
    return not forms.isdisjoint(arguments) or "prefork" in chosen


app = Celery("celeriac", include=["workers.tasks"], amqp=BrokerLink, events=TaskEvents)
app.config_from_object(celery_settings(_settings()))
if asks_for_prefork(sys.argv, os.environ):
    app.conf.worker_pool = "prefork"
app.steps["worker"].add(AgentStep)
