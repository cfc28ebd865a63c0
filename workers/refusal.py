"""How a worker process says that it cannot start: one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

from orchestrator.errors import InvalidSettings, OrchestratorError, StoreUnavailable
from workers.errors import WorkerError

UNUSABLE: Final = 2
"""Settings or agents cannot be taken, as on the command line of `celeriac`."""


def refuse(error: OrchestratorError | WorkerError) -> NoReturn:
    """End the process; Celery's command line shows no other error without a trace."""
    lines = error.problems if isinstance(error, InvalidSettings) else [str(error)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    is_away = isinstance(error, StoreUnavailable)
    raise SystemExit(os.EX_UNAVAILABLE if is_away else UNUSABLE)
