"""`python -m orchestrator.http`: the service as `celeriac http` starts it."""

from __future__ import annotations

import sys
from typing import Final

from orchestrator.errors import OrchestratorError
from orchestrator.http.server import serve
from orchestrator.settings import load_settings

UNUSABLE: Final = 2
"""Settings that cannot be taken, as on the command line of `celeriac`."""

if __name__ == "__main__":
    try:
        serve(load_settings())
    except OrchestratorError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(UNUSABLE)
