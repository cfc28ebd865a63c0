"""Lua scripts of the orchestrator's stores: composed, loaded, called.

A script is sent by its digest; the server that does not know it is given it again.
Knows nothing of what the scripts do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from time import monotonic
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from orchestrator.lua_library import Library
from orchestrator.lua_pruning import pruned
from orchestrator.redis_connection import (
    UntypedRedis,
    address_of,
    concerns_one_call,
    store_errors,
)
from orchestrator.redis_joint import Head, SharedCall, packed_parts
from orchestrator.redis_libraries import load_library
from orchestrator.redis_pipeline import SharedPipeline

logger = logging.getLogger(__name__)

_SHEBANG: Final = "#!lua\n"
"""With it a full Redis refuses a script before its first write, not in its middle."""
_GUARD: Final = "redis.call('LPUSHX', 'celeriac:absent', '')\n"
"""The same for a server that refuses the line above.

Redis 6.2 looks for memory only before a script's first write. This one may need memory
and changes nothing, since its key never exists.
"""
REFUSED_SECONDS: Final = 1.0
"""A full Redis is not asked to load a library again; to compose one takes 15 ms."""
_PROBE: Final = "#!lua flags=no-writes\nreturn 1"
"""Runs on a full Redis and on a replica as well."""
_UNKNOWN: Final = ("Error compiling script", "unexpected symbol near '#'")
"""How Redis 6.2 and fakeredis refuse the first line, which is no Lua."""
_MISSING: Final = (
    "Function not found",
    "unknown command 'FCALL'",
    "unknown command `FCALL`",
)
"""The last is what Redis 6.2 says, in place of a newer one."""
_ALONE: Final = ["alone"]
"""How a script that serves many says that it did not come to one of them."""
_BATCH: Final = 200
"""Calls in one pipeline; bounds how long the server is kept busy."""
_MOST_HEADS: Final = 1000
"""Of calls that are sent together, kept written: there is one for each tenant."""


Answer = list[Any]


class ScriptCall(NamedTuple):
    """One call of a script."""

    name: str
    keys: Sequence[str]
    arguments: Sequence[str | int]


def read_script(name: str) -> str:
    """Return the text of `lua/<name>.lua`."""
    return files("orchestrator.lua").joinpath(f"{name}.lua").read_text("utf-8")


def script_alone(name: str) -> str:
    """Return a script that needs nothing but what basics.lua and slots.lua give it."""
    text = read_script(name)
    return pruned(read_script("basics") + read_script("slots"), text) + text


class Texts(Mapping[str, str]):
    """Texts of scripts, each composed when it is asked for.

    They are large, and needed at a loading alone.
    """

    def __init__(self, names: Collection[str], compose: Callable[[str], str]) -> None:
        self._names = names
        self._compose = compose

    def __getitem__(self, name: str) -> str:
        return self._compose(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Begun(NamedTuple):
    """A call that is on its way, where the server is known to have its script."""

    call: ScriptCall
    answered: asyncio.Future[list[Any]] | None

    def withdraw(self) -> Any:
        """Return the answer if it has come, else None; nobody waits for it any more."""
        answered = self.answered
        if answered is None or answered.cancel():
            return None
        if answered.cancelled() or answered.exception() is not None:
            return None
        (answer,) = answered.result()
        return None if isinstance(answer, Exception) else answer


class RedisScripts:
    """Calls named scripts on one client."""

    def __init__(
        self,
        client: Redis,
        *,
        sources: Mapping[str, str],
        unguarded: Collection[str] = (),
        library: Callable[[], Library] | None = None,
    ) -> None:
        """Take scripts by name; `unguarded` ones only read or free memory.

        They run on a full Redis too, so that it can become less full. What stands in
        the library too is called there where the server takes it; its text is then
        not asked for.
        """
        self._client: UntypedRedis = client
        self._pipeline = SharedPipeline(client)
        self._sources = sources
        self._unguarded = unguarded
        self._library = library
        self._functions: Mapping[str, str] = {}
        self._digests: dict[str, str] = {}
        self._heads: dict[int, tuple[SharedCall, Head]] = {}
        self._loads = 0
        self._loading: asyncio.Task[None] | None = None
        self._refusal: ResponseError | None = None
        """Why the library was not loaded, until it is tried again."""
        self._refused_until = 0.0
        self._errors = store_errors(address_of(client))

    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[str | int] = ()
    ) -> Any:
        """Call one script.

        Raises:
            StoreUnavailable: it was not called, or its answer was lost.
        """
        return await self.finish(self.begin(ScriptCall(name, keys, arguments)))

    def begin(self, call: ScriptCall) -> Begun:
        """Send a call before somebody waits for it; `finish` gives its answer."""
        answered = self._pipeline.send((self._command(call),)) if self._loads else None
        return Begun(call, answered)

    async def finish(self, begun: Begun) -> Any:
        """Return the answer to a call.

        Raises:
            StoreUnavailable: it was not called, or its answer was lost.
        """
        call, answered = begun
        with self._errors:
            answers = await answered if answered is not None else []
            if not answers or _is_missing(answers[0]):
                answers = await self._run_batch([call])
            if isinstance(answers[0], Exception):
                raise answers[0]
        return answers[0]

    async def run_joint(self, shared: SharedCall, own: Sequence[str | int]) -> Answer:
        """Call a script that serves many callers at once; return this one's answer.

        Those who give the same `shared` at once are served by one call.

        Raises:
            StoreUnavailable: it was not called, or its answer was lost.
        """
        with self._errors:
            answers: list[Any] = []
            if self._loads:
                answers = await self._pipeline.send_joint(self._head_of(shared), own)
            if not answers or _concerns_the_call(answers[0]):
                name, keys, arguments = shared
                alone = ScriptCall(name, keys, (*arguments, *own))
                (found,) = await self._run_batch([alone])
                answers = found if isinstance(found, list) else [found]
            if isinstance(answers[0], Exception):
                raise answers[0]
        answer: Answer = answers[0]
        return answer

    def _head_of(self, shared: SharedCall) -> Head:
        known = self._heads.get(id(shared))
        if known is not None and known[0] is shared:
            return known[1]
        if len(self._heads) == _MOST_HEADS:
            self._heads.clear()
        parts = self._command(ScriptCall(*shared))
        head = Head(len(parts), packed_parts(parts))
        self._heads[id(shared)] = shared, head
        return head

    async def read(self, *command: str | int) -> Any:
        """Send one command that changes nothing along with the scripts."""
        (answer,) = await self.read_many([command])
        return answer

    async def read_many(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Send commands that change nothing, in one trip."""
        answers = await self._pipeline.send(commands) if commands else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def run_many(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Call scripts in order; each is atomic, all of them are not.

        Raises:
            StoreUnavailable: at least one failed; nothing is known of the others.
        """
        with self._errors:
            answers = await self._run_all(calls)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    async def run_each(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Call scripts in one pipeline; None is the answer of one that failed.

        For calls that do not depend on each other. What failed is logged.

        Raises:
            StoreUnavailable: Redis refuses whatever it is asked.
        """
        with self._errors:
            answers = await self._run_all(calls)
            for answer in answers:
                if isinstance(answer, Exception) and not concerns_one_call(answer):
                    raise answer
        return [
            _none_if_failed(call, answer)
            for call, answer in zip(calls, answers, strict=True)
        ]

    async def _run_all(self, calls: Sequence[ScriptCall]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(calls), _BATCH):
            answers += await self._run_batch(calls[start : start + _BATCH])
        return answers

    async def _run_batch(self, calls: Sequence[ScriptCall]) -> list[Any]:
        if not self._loads:
            await self._load_after(0)
        loads = self._loads
        answers = await self._send(calls)
        if any(_is_missing(answer) for answer in answers):
            await self._load_after(loads)
            answers = await self._resend(calls, answers)
        return answers

    async def _load_after(self, loads: int) -> None:
        """Load unless it was done since; all who miss a script share one loading.

        A server that was restarted is missed by every run of the process at once.
        """
        if self._loads != loads:
            return
        if self._refusal is not None and monotonic() < self._refused_until:
            raise self._refusal.with_traceback(None)
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(_note_outcome)
        await asyncio.shield(self._loading)

    async def _resend(
        self, calls: Sequence[ScriptCall], answers: Sequence[Any]
    ) -> list[Any]:
        missing = [
            call
            for call, answer in zip(calls, answers, strict=True)
            if _is_missing(answer)
        ]
        again = iter(await self._send(missing))
        return [next(again) if _is_missing(answer) else answer for answer in answers]

    async def _send(self, calls: Sequence[ScriptCall]) -> list[Any]:
        return await self._pipeline.execute([self._command(call) for call in calls])

    def _command(self, call: ScriptCall) -> tuple[str | int, ...]:
        name, keys, arguments = call
        function = self._functions.get(name)
        if function is not None:
            return ("FCALL", function, len(keys), *keys, *arguments)
        return ("EVALSHA", self._digests[name], len(keys), *keys, *arguments)

    async def _load(self) -> None:
        """Have the server know all scripts.

        A full Redis takes no library, and what stands in it would be refused as well:
        it is loaded by the first call that misses it once there is room.
        """
        functions: Mapping[str, str] = {}
        refusal: ResponseError | None = None
        if self._library is not None:
            library = self._library()
            try:
                functions = await load_library(self._client, library)
            except ResponseError as exc:
                functions, refusal = library.functions, exc
        first_line = _SHEBANG if await self._knows_shebang() else _GUARD
        texts = {
            name: self._sources[name]
            if name in self._unguarded
            else first_line + self._sources[name]
            for name in self._sources
            if name not in functions
        }
        async with self._client.pipeline(transaction=False) as pipeline:
            for text in texts.values():
                pipeline.execute_command("SCRIPT LOAD", text)
            await pipeline.execute()
        self._digests = {
            name: sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in texts.items()
        }
        self._functions = functions
        self._heads.clear()
        self._loads += 1
        self._refusal = refusal
        if refusal is not None:
            self._refused_until = monotonic() + REFUSED_SECONDS
            raise refusal

    async def _knows_shebang(self) -> bool:
        try:
            await self._client.execute_command("EVAL", _PROBE, 0)
        except ResponseError as exc:
            if any(sign in str(exc) for sign in _UNKNOWN):
                return False
            raise
        return True


def _is_missing(answer: Any) -> bool:
    """Whether the server did not know what it was to call."""
    if not isinstance(answer, ResponseError):
        return False
    return isinstance(answer, NoScriptError) or any(
        words in str(answer) for words in _MISSING
    )


def _concerns_the_call(answer: Any) -> bool:
    """Whether a caller is to be answered alone.

    What one task holds may be no text, which makes the answer of all unreadable; and
    what all hold may be too much for one answer.
    """
    is_unread = isinstance(answer, UnicodeError) or answer == _ALONE
    return is_unread or _is_missing(answer)


def _none_if_failed(call: ScriptCall, answer: Any) -> Any:
    if not isinstance(answer, Exception):
        return answer
    facts = {"script": call.name, "key": call.keys[0], "error": str(answer)}
    logger.error("script failed", extra=facts)
    return None


def _note_outcome(loading: asyncio.Task[None]) -> None:
    """Take the error of a loading whose callers were all cancelled."""
    if not loading.cancelled():
        loading.exception()
