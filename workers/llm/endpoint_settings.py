"""From the settings of an endpoint to where it answers, and within which limits."""

from __future__ import annotations

from orchestrator.llm_settings import EndpointSettings
from workers.llm.endpoint import CallLimits, Endpoint


def endpoint_of(settings: EndpointSettings) -> Endpoint:
    """Return where the settings' endpoint answers, and how it is reached.

    Raises:
        InvalidEndpoint: the URL, a key or a header cannot be used.
    """
    return Endpoint(
        base_url=settings.base_url,
        api_key=settings.api_key,
        headers=settings.headers,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
        client_certificate=settings.client_certificate,
    )


def limits_of(settings: EndpointSettings) -> CallLimits:
    """Return what one call to it may take."""
    return CallLimits(
        connect_seconds=settings.connect_timeout,
        first_byte_seconds=settings.first_byte_timeout,
        idle_seconds=settings.idle_timeout,
        total_seconds=settings.total_timeout,
        max_bytes=settings.max_response_bytes,
    )
