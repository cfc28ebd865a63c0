"""What the tests of settings write."""

from __future__ import annotations

from pathlib import Path

SECRET = "sk-very-secret"  # noqa: S105


def write(text: str | bytes, name: str = "celeriac.yaml") -> Path:
    path = Path(name)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
