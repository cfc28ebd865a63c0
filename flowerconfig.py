"""Flower's options for `celery -A workers flower` run in this directory."""

from orchestrator.flower_settings import *  # noqa: F403
