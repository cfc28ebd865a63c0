"""Name resolution that fails while a file exists, for one process and its children.

As in `wrong_clock`: `sitecustomize.py` in a directory of PYTHONPATH runs in every
Python of a worker before anything else.
"""

from __future__ import annotations

from pathlib import Path

BREAK = """
import os, socket

resolve = socket.getaddrinfo


def broken(host, *arguments, **options):
    if os.path.exists(os.environ["FAULT_NO_NAMES"]) and host not in (None, "127.0.0.1"):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return resolve(host, *arguments, **options)


socket.getaddrinfo = broken
"""


def breakable_names(directory: Path, switch: Path) -> dict[str, str]:
    """Return the environment of processes that find no host while `switch` exists."""
    place = directory / "names"
    place.mkdir()
    (place / "sitecustomize.py").write_text(BREAK)
    return {"PYTHONPATH": str(place), "FAULT_NO_NAMES": str(switch)}
