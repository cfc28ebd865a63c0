"""A Redis made of Python, for machines without one: `python -m` starts it.

Prints its port on one line, then serves until it gets SIGTERM. Keeps nothing on disk.
"""

from __future__ import annotations

import logging
import os
import signal

from fakeredis import TcpFakeServer


def main() -> None:
    """Serve on a free port of the loopback address."""
    logging.disable(logging.CRITICAL)
    server = TcpFakeServer(("127.0.0.1", 0))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    os.write(1, f"{server.server_address[1]}\n".encode())
    server.serve_forever()


if __name__ == "__main__":
    main()
