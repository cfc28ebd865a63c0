"""What is told when a project's own code fails: where, and at the start why, in short.

Celery would end with a trace of its own frames, and `celeriac up` start it again and
again.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from pydantic import ValidationError

from orchestrator.agent_config import AgentConfig
from orchestrator.errors import OrchestratorError
from orchestrator.settings_problems import describe
from workers.errors import InvalidAgent, WorkerError, text_of

_LONGEST_TEXT: Final = 500
"""Of an error that a stranger's code raises."""
_OURS: Final = ("celery", "conversations", "orchestrator", "workers")
_INSTALLED: Final = tuple(
    {
        sysconfig.get_path(name)
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


def import_modules(
    names: str | Sequence[str] | None, load: Callable[[str], object]
) -> None:
    """Import the modules that `-I` names; in a text commas stand between them.

    Raises:
        InvalidAgent: one cannot be imported; says where in it, and why.
    """
    for name in names.split(",") if isinstance(names, str) else names or ():
        try:
            load(name)
        except (Exception, SystemExit) as exc:
            raise InvalidAgent(f"module {name!r} (-I): {_told(name, exc)}") from exc


def _told(name: str, error: BaseException) -> str:
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{missing}."):
        here = Path.cwd()
        if name.endswith(".py") or "/" in name:
            return (
                "names a file; give the module's name, such as my_agents for"
                " my_agents.py, in the directory that holds it"
            )
        return (
            f"there is no module {missing!r} in {here} or on Python's path; start in"
            " the directory that holds it, or set PYTHONPATH"
        )
    return what_failed(error)


def what_failed(error: BaseException, *, called: CodeType | None = None) -> str:
    """Say where in a project's own code an error came up, and what it says.

    Args:
        error: What was raised.
        called: Where its code begins, for an error in none of its lines.
    """
    if isinstance(error, SyntaxError):
        where, text = (error.filename or "", error.lineno or 0), error.msg
    else:
        where, text = _place(error), _text(error)
    if not where[0] and called is not None:
        where = (called.co_filename, called.co_firstlineno)
    if not isinstance(error, (OrchestratorError, WorkerError)):
        text = f"{type(error).__name__}: {text}; correct it"
    return f"{where[0]}, line {where[1]}: {text}" if where[0] else text


def _text(error: BaseException) -> str:
    if isinstance(error, ValidationError) and error.title == AgentConfig.__name__:
        return "; ".join(describe(AgentConfig, error))
    return " ".join(text_of(error).split())[:_LONGEST_TEXT]


def place_of(error: BaseException) -> str | None:
    """Say in which line an error came up: a project's own, else a library's, else ours.

    A package of the project's own that is installed counts as a library.
    """
    lines = list(traceback.walk_tb(error.__traceback__))
    others = [each for each in lines if not _is_ours(each[0])]
    own = [each for each in others if not _is_installed(each[0])]
    for frame, line in (own or others or lines)[-1:]:
        return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return None


def _place(error: BaseException) -> tuple[str, int]:
    """Return the last line that is neither ours nor a library's."""
    place = ("", 0)
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not (_is_ours(frame) or _is_installed(frame)):
            place = (frame.f_code.co_filename, line)
    return place


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OURS


def _is_installed(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(("<", *_INSTALLED))
