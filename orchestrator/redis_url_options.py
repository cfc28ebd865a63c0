"""What the options after `?` of a Redis URL may say.

redis-py takes most of them as they are, and trips over some only when a command fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Final

from orchestrator.errors import StoreUnavailable

NOT_OF_THE_URL: Final = {
    "protocol": 2,
    "decode_responses": True,
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "health_check_interval": 0,
    "retry_on_error": [],
    "retry_on_timeout": False,
}
"""How answers are read, and which commands are repeated.

redis-py takes these from a URL before it takes them from us.
"""
FEWEST_CONNECTIONS: Final = 2
_ABOVE_ZERO: Final = (
    "socket_timeout",
    "socket_connect_timeout",
    "socket_read_size",
    "timeout",
)
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def check_url_options(options: Mapping[str, object], *, max_connections: int) -> None:
    """Refuse a number that nothing works with, or a file that is not there.

    A missing certificate would look like a server that does not answer.

    Raises:
        StoreUnavailable: names the option.
    """
    if max_connections < FEWEST_CONNECTIONS:
        raise StoreUnavailable(
            f"max_connections of the Redis URL must be {FEWEST_CONNECTIONS} or more:"
            " one of them waits for what others bring"
        )
    for name in _ABOVE_ZERO:
        number = options.get(name)
        if isinstance(number, int | float) and not 0 < number < inf:
            raise StoreUnavailable(
                f"{name} of the Redis URL is {number}; write a number above 0, or leave"
                " it out"
            )
    for name in _FILES:
        path = options.get(name)
        if isinstance(path, str) and not _is_file(path):
            raise StoreUnavailable(
                f"{name} of the Redis URL names {path}, which is no file that can be"
                " read; correct the path"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a directory on the way may not be entered, say
        return False
