"""What the errors of redis-py become at the border of the conversation store.

Their texts may hold an address or a password, so they stay behind: of a server that
cannot be reached only the system's own words are told.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    TimeoutError,  # noqa: A004 - the name that redis-py gives it
)
from redis.exceptions import ConnectionError as RedisConnectionError

from conversations.errors import ConversationStoreUnavailable, ConversationUnreadable

REFUSALS: Final = {
    "maxmemory": "is out of memory",
    "read only replica": "is a read-only replica",
    "unable to persist": "cannot write to its disk",
    "writing to the AOF": "cannot write to its disk",
}
"""Words by which Redis, also from within a script, says why it refuses a write."""
_OUR_LIMITS: Final = (os.strerror(errno.EMFILE), os.strerror(errno.ENFILE))
"""The server has nothing to do with these."""
_FOREIGN: Final = (
    "the conversation store holds something else in place of a conversation;"
    " find who else writes to our keys"
)
_LOGIN = (AuthenticationError, AuthorizationError, NoPermissionError)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn every error of redis-py into ours.

    Raises:
        ConversationStoreUnavailable: says what happened and what helps.
        ConversationUnreadable: the store answered with what is not ours.
    """
    try:
        yield
    except (RedisError, UnicodeError) as exc:
        cause = origin(exc)
        if isinstance(cause, UnicodeError) or "WRONGTYPE" in str(cause):
            raise ConversationUnreadable(_FOREIGN) from one_line(exc)
        said = f"the conversation store {_reason(cause)}"
        raise ConversationStoreUnavailable(said) from one_line(exc)


def origin(exc: BaseException) -> BaseException:
    """What redis-py wrapped when it could not set a connection up."""
    while isinstance(exc.__cause__, RedisError):
        exc = exc.__cause__
    return exc


def one_line(exc: BaseException) -> BaseException:
    """Return a copy of the origin, without redis-py's frames and contexts.

    A traceback then ends with where we asked, under a line of what was answered. The
    callers of one round trip share the origin, and each finds its reason in it.
    """
    return copy(origin(exc))


def tls_words(exc: BaseException) -> str | None:
    """Why an encrypted connection was not set up; None when that was not the matter."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return (
                f"has a certificate that is not accepted ({found.verify_message});"
                " correct its host, or name who vouches for it: ?ssl_ca_certs=FILE"
            )
        if isinstance(found, ssl.SSLError):
            return (
                f"does not speak TLS as asked ({found.reason});"
                " use redis:// where it speaks none"
            )
        found = found.__cause__ or found.__context__
    return None


def system_words(exc: BaseException) -> str:
    """Why the system could not connect, such as "Connection refused"; else the kind."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, socket.gaierror):
            return str(found.strerror)
        if isinstance(found, OSError) and found.errno:
            return os.strerror(found.errno)
        found = found.__cause__ or found.__context__
    return type(exc).__name__


def unreachable(exc: BaseException) -> str:
    """Say why a server cannot be reached, and what helps."""
    cause = system_words(exc)
    if cause in _OUR_LIMITS:
        return f"cannot be asked ({cause}); allow this process more (ulimit -n)"
    return f"cannot be reached ({cause}); start it or set REDIS_URL"


def _reason(exc: BaseException) -> str:
    name = type(exc).__name__
    for words, reason in REFUSALS.items():
        if words in str(exc):
            return f"{reason} ({name}); give the configured Redis room and a primary"
    if isinstance(exc, _LOGIN):
        return f"refuses the login ({name}); check the user, password, ACL"
    if isinstance(exc, TimeoutError):
        return f"did not answer in time ({name}); check the server and the network"
    if isinstance(exc, RedisConnectionError):
        return tls_words(exc) or unreachable(exc)
    return f"refused ({name}); the log of the configured Redis says more"
