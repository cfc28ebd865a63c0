"""The Celery application: `celery -A workers worker`, `celery -A workers flower`."""

from __future__ import annotations

from celery import Celery

from orchestrator.celery_settings import celery_settings
from orchestrator.errors import InvalidSettings
from orchestrator.settings import Settings, load_settings
from workers.bootstrap import AgentStep


def _settings() -> Settings:
    """Read the settings; Celery's command line shows no other error without a trace."""
    try:
        return load_settings()
    except InvalidSettings as exc:
        raise SystemExit("\n".join(exc.problems)) from None


app = Celery("celeriac", include=["workers.tasks"])
app.config_from_object(celery_settings(_settings()))
app.steps["worker"].add(AgentStep)
