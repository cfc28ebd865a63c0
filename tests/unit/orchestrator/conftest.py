from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is configured: an empty directory, none of the well-known names."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "CELERY_BROKER_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
