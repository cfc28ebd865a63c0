"""Whether a service could listen at an address now."""

from __future__ import annotations

import socket


def why_taken(host: str, port: int) -> str | None:
    """Say why nobody can listen there; None where it is free.

    It may be taken in the moment after: who listens must still expect that.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        return exc.strerror or str(exc)
    return None
