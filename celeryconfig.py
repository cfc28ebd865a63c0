"""Celery's settings as a module, for tools that want one; see orchestrator."""

from orchestrator.celery_settings import celery_settings
from orchestrator.settings import load_settings

globals().update(celery_settings(load_settings()))
