"""The process that serves the application, with limits below HTTP.

uvicorn waits for a request's line, headers and body without end, and takes trailers as
headers; here a connection that does not bring them in time, or much that is no body, is
cut, and trailers are passed over. Where there are too many connections each request is
marked, for `limits` to answer.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator.collector import spare_the_collector
from orchestrator.errors import InvalidSettings
from orchestrator.http.app import create_app
from orchestrator.http.limits import CROWDED
from orchestrator.http.stream import ABORT
from orchestrator.http_settings import HttpSettings
from orchestrator.listening import why_taken
from orchestrator.log_format import FactsFormatter
from orchestrator.open_files import allow_many_files
from orchestrator.redis_connection import check_options
from orchestrator.settings import Settings

MAX_HEADER_BYTES = 64 * 1024
"""Of a request's line and headers; common servers take 8 to 32 kB. Also of what stands
between two pieces of a chunked body, and of its trailers."""
KEEP_ALIVE_SECONDS = 75
"""Between two requests of a connection; clients commonly close theirs after 5 to 60."""
LOG_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BODY_MARGIN_SECONDS = 5.0
"""Beyond `body_timeout`, after which who reads the body has answered."""
SPARE_CONNECTIONS = 256
"""Beyond the bound: they are told to come again later; further ones are cut."""
STOP_SECONDS = 5
"""For answers under way when the service is stopped; streams are cut and resumed."""


class BoundedHeaders(HttpToolsProtocol):
    """Cuts connections whose headers are slow or large; marks those that are many."""

    header_seconds = 10.0
    body_seconds = 35.0
    most_connections = 4096
    _timer: asyncio.TimerHandle | None = None
    _is_in_headers = False
    _bytes_in_vain = 0
    """Since a head or a piece of a body was complete."""
    _got_on = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections + SPARE_CONNECTIONS:
            transport.abort()
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._got_on = False
        super().data_received(data)
        if self._got_on or self.parser is None:
            return
        self._bytes_in_vain += len(data)
        if self._bytes_in_vain <= MAX_HEADER_BYTES:
            return
        if self._is_in_headers:
            self.send_400_response("The request's headers are too large.")
        else:  # the answer may be under way
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer must not stand for a header: what is before us has not checked it.
        if self._is_in_headers:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._get_on()
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}
        if len(self.connections) > self.most_connections:
            self.scope["extensions"][CROWDED] = {}
        self._expect_headers()

    def on_headers_complete(self) -> None:
        # A route that reads no body answers, and the rest of it may drip in for ever.
        self._expect("body", self.body_seconds)
        self._is_in_headers = False
        self._get_on()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._get_on()
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Close after the answer: the parser reads no request on this line any more."""
        self.cycle.keep_alive = False

    def _get_on(self) -> None:
        self._got_on = True
        self._bytes_in_vain = 0

    def _expect_headers(self) -> None:
        self._is_in_headers = True
        self._expect("headers", self.header_seconds)

    def _expect(self, part: str, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._cut, part, seconds)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self, part: str, seconds: float) -> None:
        self.logger.info("connection cut: no %s within %g s", part, seconds)
        self.transport.abort()


def protocol_of(settings: HttpSettings) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with our bounds on headers and connections."""
    facts = {
        "header_seconds": settings.header_timeout,
        "body_seconds": settings.body_timeout + BODY_MARGIN_SECONDS,
        "most_connections": settings.max_connections,
    }
    return type("BoundedHeaders", (BoundedHeaders,), facts)


def serve(settings: Settings) -> None:
    """Serve until a signal ends the process.

    Raises:
        InvalidSettings: it cannot listen there, or not with this certificate.
        StoreUnavailable: the Redis URL cannot be used, whether one answers or not.
    """
    allow_many_files()
    http = settings.http
    if settings.storage.backend == "redis":
        check_options(settings.storage.redis_url.get_secret_value())
    if reason := why_taken(http.host, http.port):
        raise InvalidSettings(
            [
                f"http.port: {http.port} on {http.host} cannot be used ({reason});"
                " choose another (http.port, --port), or stop what listens there"
            ]
        )
    app = create_app(settings)
    spare_the_collector()
    config = uvicorn.Config(
        app,
        host=http.host,
        port=http.port,
        http=protocol_of(http),
        ws="none",
        loop="auto",
        lifespan="on",
        log_level="info",
        access_log=False,
        server_header=False,
        proxy_headers=http.behind_proxy,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=http.tls_certificate,
        ssl_keyfile=http.tls_key,
    )
    _load(config, http)
    _show_own_lines()
    uvicorn.Server(config).run()


def _load(config: uvicorn.Config, http: HttpSettings) -> None:
    """Have the certificate read while it can be told what is wrong with it."""
    try:
        if http.tls_certificate is not None:
            # OpenSSL would ask the terminal for the passphrase of a key.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(http.tls_certificate, http.tls_key, password=str)
        config.load()
    except OSError as exc:  # those of ssl too
        paths = [path for path in (http.tls_certificate, http.tls_key) if path]
        gone = [f"{path} is no file" for path in paths if not path.is_file()]
        reason = ", ".join(gone) or exc.strerror or str(exc)
        raise InvalidSettings(
            [
                f"http.tls_certificate, http.tls_key: cannot be used ({reason});"
                " name PEM files that belong together and that this user may read, with"
                " a key that has no passphrase"
            ]
        ) from exc


def _show_own_lines() -> None:
    """Write what our own rooms log, with its facts; uvicorn writes its own."""
    handler = logging.StreamHandler()
    handler.setFormatter(FactsFormatter(logging.Formatter(LOG_LINE)))
    for room in ("orchestrator", "conversations"):
        logger = logging.getLogger(room)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
