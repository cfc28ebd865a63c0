"""`python -m orchestrator.http`: the service as `celeriac http` starts it."""

from __future__ import annotations

import sys

from orchestrator.errors import OrchestratorError
from orchestrator.http.server import serve
from orchestrator.settings import load_settings

if __name__ == "__main__":
    try:
        serve(load_settings())
    except OrchestratorError as exc:
        sys.exit(str(exc))
