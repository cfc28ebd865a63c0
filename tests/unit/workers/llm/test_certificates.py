"""A certificate that is refused is told with the reason and with what helps."""

from __future__ import annotations

import ssl

import pytest

from workers.errors import RequestRejected
from workers.llm.endpoint import Endpoint
from workers.llm.transport_errors import transport_error


@pytest.mark.parametrize(
    ("why", "helps"),
    [
        ("certificate has expired", "have it renewed"),
        ("certificate is not yet valid", "this machine's clock"),
        ("Hostname mismatch, certificate is not valid for 'h'.", "the name that it is"),
        ("self-signed certificate", "ca_file"),
    ],
)
def test_a_certificate_is_refused_with_what_helps(why: str, helps: str):
    cause = ssl.SSLCertVerificationError()
    cause.verify_message = why
    error = transport_error(cause, endpoint=Endpoint(base_url="https://h/v1"))
    assert isinstance(error, RequestRejected)
    assert why.rstrip(".") in str(error)
    assert helps in str(error)
