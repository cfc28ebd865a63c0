from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from orchestrator.__main__ import INTERRUPTED, main
from orchestrator.cli import exit_codes


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = builtins.__import__

    def interrupted(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "orchestrator.cli.group":
            raise KeyboardInterrupt
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    monkeypatch.setattr(sys, "argv", ["celeriac", "status"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == INTERRUPTED == exit_codes.INTERRUPTED
