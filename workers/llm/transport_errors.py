"""From what went wrong on the way to an endpoint to one leaf of `LLMError`.

Knows connections, proxies and certificates; reads no answer.
"""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp
from yarl import URL

from workers.errors import (
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    RequestRejected,
)
from workers.llm.endpoint import Endpoint

_UNSENT = (
    *(aiohttp.InvalidURL, aiohttp.ClientConnectorError),
    *(aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError),
)
"""What comes before a request is written."""


_DISTRUST = (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)


def transport_error(exc: Exception, *, endpoint: Endpoint) -> LLMError:
    """Return the leaf for a request that got no answer at all."""
    is_of_a_proxy = _is_of_a_proxy(exc, endpoint)
    error = _at_proxy(exc, endpoint) if is_of_a_proxy else _at_endpoint(exc, endpoint)
    error.endpoint = endpoint.base_url
    error.was_sent = not isinstance(exc, _UNSENT)
    return error


def _at_endpoint(exc: Exception, endpoint: Endpoint) -> LLMError:
    where = endpoint.base_url
    error: LLMError
    if isinstance(exc, _DISTRUST):
        error = RequestRejected(_distrust(exc, where))
    elif isinstance(exc, aiohttp.InvalidURL):
        error = RequestRejected(
            f"{where} is no address that can be called; set OPENAI_BASE_URL"
        )
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        error = LLMUnavailable(
            f"the host name of {where} does not resolve; set OPENAI_BASE_URL"
        )
    elif isinstance(exc, aiohttp.ClientSSLError):
        error = LLMUnavailable(
            f"no encrypted connection to {where} was possible; check whether"
            " OPENAI_BASE_URL should begin with http or https"
        )
    elif isinstance(
        exc, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
    ):
        error = LLMUnavailable(_unreached(exc, endpoint))
    elif isinstance(exc, aiohttp.ClientHttpProxyError):
        error = _by_proxy(exc.status, where)
    elif isinstance(exc, aiohttp.ClientResponseError):
        error = MalformedCompletion(
            f"what answers at {where} does not speak HTTP; set OPENAI_BASE_URL"
        )
    else:
        error = LLMUnavailable(
            f"{where} closed the connection without an answer; check its log"
        )
    return error


def _at_proxy(exc: Exception, endpoint: Endpoint) -> LLMError:
    where = f"the proxy before {endpoint.base_url}"
    if isinstance(exc, _DISTRUST):
        return RequestRejected(_distrust(exc, where))
    helps = "correct `proxy` or the proxy variables"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return LLMUnavailable(f"the host name of {where} does not resolve; {helps}")
    if isinstance(exc, aiohttp.ClientSSLError):
        return LLMUnavailable(f"{where} does not speak TLS; {helps}")
    if _lacks_files(exc):
        return LLMUnavailable(_unreached(exc, endpoint))
    return LLMUnavailable(f"{where} does not answer; start it, or {helps}")


def _is_of_a_proxy(exc: Exception, endpoint: Endpoint) -> bool:
    """Whether it is a proxy that could not be reached, or is not trusted."""
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return True
    host = getattr(exc, "host", None)
    return host is not None and host != URL(endpoint.base_url).raw_host


def _lacks_files(exc: Exception) -> bool:
    return isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE)


def _unreached(exc: Exception, endpoint: Endpoint) -> str:
    where = endpoint.base_url
    if isinstance(exc, OSError) and _lacks_files(exc):
        return (
            f"no connection to {where} can be opened ({os.strerror(exc.errno or 0)});"
            " allow this process more (ulimit -n), or give the worker fewer slots"
        )
    return f"no LLM endpoint answers at {where}; {endpoint.how_to_reach}"


def _by_proxy(status: int, where: str) -> LLMError:
    """Return the leaf for a proxy that makes no connection."""
    if status >= 500:
        return LLMUnavailable(
            f"the proxy before {where} reached nobody (HTTP {status}); check it"
        )
    helps = "give the proxy's login in `proxy` or in the proxy variables"
    if status != 407:
        helps = "have it let this address pass"
    return RequestRejected(f"the proxy before {where} refused (HTTP {status}); {helps}")


def _distrust(cause: BaseException, where: str) -> str:
    """Say why a certificate is refused, and what helps."""
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        cause = cause.certificate_error
    why = getattr(cause, "verify_message", "")
    helps = "install its authority and set SSL_CERT_FILE, or set ca_file"
    if "expired" in why or "not yet valid" in why:
        helps = "have it renewed, and check this machine's clock"
    elif "mismatch" in why:
        helps = "use the name that it is made for"
    reason = f" ({why.rstrip('.')})" if why else ""
    return f"the certificate of {where} is not trusted{reason}; {helps}"


def went_stale(exc: Exception) -> bool:
    """Whether the connection was gone before one byte of an answer came."""
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return isinstance(exc.message, str)  # else: half of a response's head
    return isinstance(exc, aiohttp.ClientOSError) and not isinstance(
        exc, aiohttp.ClientConnectorError
    )
