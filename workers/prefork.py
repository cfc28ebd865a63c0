"""Celery's pool of processes, which keeps count of what its children were given.

Celery's own forgets at a shutdown a task that a child was handed and has not said it
began: nobody reads of its end, and the child waits 30 seconds for that before it ends.
It also looks once, too early, for a child that dies.

The last part of this module's name is that of Celery's, by which pools are known.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool

LOOK_AGAIN_SECONDS: Final = 0.05
"""Between two looks at a child whose files are closed: it is about to be gone."""


class Children(AsynPool):  # type: ignore[misc] # untyped
    """The processes of a worker."""

    def flush(self) -> None:
        """Forget what no child was given; a child will tell of the end of the rest."""
        begun = {
            number: job
            for number, job in self._cache.items()
            if job._write_to is not None
        }
        super().flush()
        for number, job in begun.items():
            if not job.ready() and job._write_to._is_alive():
                self._cache[number] = job
                self._busy_workers.add(job._write_to.inqW_fd)

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self._replace(hub, proc)

    def _replace(self, hub: Any, proc: Any) -> None:
        """Have a child that is about to be gone replaced when it is."""
        if proc._is_alive():
            hub.call_later(LOOK_AGAIN_SECONDS, partial(self._replace, hub, proc))
        else:
            self.maintain_pool()


class PreforkPool(TaskPool):  # type: ignore[misc] # untyped
    """Takes the place of `--pool prefork`."""

    Pool = Children
