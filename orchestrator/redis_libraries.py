"""The libraries of functions on a server: ours is loaded, long unused ones go.

Each release and each setting of the scripts has one of its own, 100 kB each. Whoever
loads one notes when; a process that misses its library loads it again and notes that,
so one that goes too early costs one loading. Knows nothing of what functions do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from orchestrator.lua_library import PREFIX, Library
from orchestrator.redis_answers import pairs
from orchestrator.redis_connection import UntypedRedis, concerns_one_call
from orchestrator.redis_keys import LIBRARIES

logger = logging.getLogger(__name__)

UNUSED_SECONDS: Final = 30 * 86_400
"""A library that nobody has loaded for so long goes when another one comes."""
_NAME: Final = re.compile(f"{PREFIX}[0-9a-f]{{16}}(?:[0-9a-f]{{24}})?")
_IS_THERE: Final = "already exists"
_KNOWS_NONE: Final = "unknown command"
"""Redis 6.2 does with scripts."""


async def load_library(client: UntypedRedis, library: Library) -> Mapping[str, str]:
    """Load a library, if it is not there yet; return its functions by script.

    They are none where the server, or our user, takes no library.

    Raises:
        ResponseError: the server refuses whatever it is asked, for now.
    """
    try:
        await client.execute_command("FUNCTION", "LOAD", library.code)
        is_new = True
    except NoPermissionError:
        return {}
    except ResponseError as exc:
        if _IS_THERE not in str(exc):
            if not concerns_one_call(exc):
                raise
            if _KNOWS_NONE not in str(exc):
                logger.warning("library not loaded", extra={"error": str(exc)})
            return {}
        is_new = False
    with suppress(ResponseError):  # ours is there; the others can wait
        now = await _note_use(client, library.name)
        if is_new:
            await _drop_unused(client, now)
    return library.functions


async def _note_use(client: UntypedRedis, name: str) -> int:
    seconds, _ = await client.time()
    await client.zadd(LIBRARIES, {name: seconds})
    return int(seconds)


async def _drop_unused(client: UntypedRedis, now: int) -> None:
    """Delete what was loaded long ago; one of which nothing is known is noted now."""
    there = await _names(client)
    if there:  # somebody may have deleted ours meanwhile
        await client.zadd(LIBRARIES, dict.fromkeys(there, now), nx=True)
    for name, loaded_at in await client.zrange(LIBRARIES, 0, -1, withscores=True):
        unused = loaded_at + UNUSED_SECONDS <= now
        if unused and name in there:
            await client.execute_command("FUNCTION", "DELETE", name)
        if unused or name not in there:
            await client.zrem(LIBRARIES, name)


async def _names(client: UntypedRedis) -> set[str]:
    """Our libraries on the server, also those of stores in its other databases."""
    listed: list[Any] = await client.execute_command(
        "FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*"
    )
    names = (pairs(row)["library_name"] for row in listed)
    return {name for name in names if _NAME.fullmatch(name)}
