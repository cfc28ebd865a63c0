"""`python -m workers OPTIONS`: `celery -A workers worker OPTIONS` with less memory.

The worker, its options and its signals are Celery's. What is left out are its other
commands, and with them the shell and Flower, which every `celery` command loads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from copy import copy
from typing import Any, Final, NoReturn

from celery.bin.base import CeleryCommand, CeleryOption, CLIContext
from celery.bin.worker import WorkersPool, detach, worker
from celery.concurrency import get_implementation

from workers.app import app
from workers.pool_choice import unsupported
from workers.refusal import refuse

PROGRAM: Final = "-mworkers"
"""Celery starts this process again, on SIGHUP, as `python`, then `sys.argv`."""
_PATCHING_POOLS: Final = ("eventlet", "gevent")
_DETACH: Final = ("-D", "--detach")
_USERS: Final = ("--uid", "--gid")
_USERS_GIVEN: Final = ("--uid=", "--gid=")
_USER_VARIABLES: Final = ("CELERY_WORKER_UID", "CELERY_WORKER_GID")
_DAEMON: Final = ("logfile", "pidfile", "uid", "gid", "umask", "executable", "hostname")


class SupportedPools(WorkersPool):  # type: ignore[misc]
    """Celery's pools without those that it could not import without their library.

    Celery takes a choice of prefork for its own default, which settings overrule: here
    no choice is none, and prefork a choice.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in _PATCHING_POOLS:
            refuse(unsupported(value))
        if value == "prefork":
            return get_implementation(value)
        return super().convert(value, param, ctx)


class WorkerCommand(CeleryCommand):  # type: ignore[misc]
    """Celery's `worker` command as a program of its own."""

    def __init__(self) -> None:
        super().__init__(
            worker.name,
            callback=worker.callback,
            params=[*map(_with_supported_pools, worker.params), _no_other_app()],
            help=worker.help,
            context_settings=worker.context_settings,
        )

    def invoke(self, ctx: Any) -> Any:
        """Start the worker, here or in the background."""
        arguments = sys.argv[1:]
        sys.argv[1:] = left_to_do(arguments)
        for name in _USER_VARIABLES:
            os.environ.pop(name, None)  # taken; not for a process that starts again
        if not ctx.params["detach"]:
            return super().invoke(ctx)
        if not set(_DETACH) & set(arguments):
            ctx.fail(
                "--detach must stand apart from other options, or no process stays"
            )
        return _run_in_background(ctx)


def _no_other_app() -> Any:
    def refuse_one(ctx: Any, _option: Any, named: str | None) -> None:
        if named:
            ctx.fail(
                "leave -A out: this is the worker of `workers`; for another app, use"
                " `celery -A APP worker`"
            )

    return CeleryOption(
        ["-A", "--app"],
        hidden=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=refuse_one,
    )


def _with_supported_pools(option: Any) -> Any:
    if option.name != "pool":
        return option
    ours = copy(option)
    ours.type = SupportedPools()
    ours.default = None  # the one of the settings
    return ours


def _run_in_background(ctx: Any) -> Any:
    """Start this program again, detached; Celery would start `python -m celery`."""
    options = {name: ctx.params[name] for name in _DAEMON}
    return detach(sys.executable, list(sys.argv), app=app, **options)


def left_to_do(arguments: Sequence[str]) -> list[str]:
    """Leave out what a process that starts again finds done.

    Whoever has become another user may not do so again, not even to the same one.
    """
    words, left = iter(arguments), list[str]()
    for word in words:
        if word in _USERS:
            next(words, None)
        elif word not in _DETACH and not word.startswith(_USERS_GIVEN):
            left.append(word)
    return left


def main(arguments: Sequence[str]) -> NoReturn:
    """Run a worker and exit with its code."""
    sys.argv = [PROGRAM, *arguments]
    no_color = bool(os.environ.get("NO_COLOR"))
    WorkerCommand().main(
        list(arguments),
        prog_name="python -m workers",
        auto_envvar_prefix="CELERY_WORKER",
        obj=CLIContext(app, no_color=no_color, workdir=None),
    )
    raise AssertionError("a click program exits")


if __name__ == "__main__":
    main(sys.argv[1:])
