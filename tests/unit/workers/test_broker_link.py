"""A broker that was away for long is found soon after it is back."""

from __future__ import annotations

import pytest
import redis
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from orchestrator.errors import InvalidSettings
from workers.app import app
from workers.broker_link import LONGEST_PAUSE_SECONDS, check_broker


def test_the_pauses_between_attempts_stay_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the worker's consumer connects: by the application's own connection."""
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    pauses: list[float] = []
    with (
        app.connection_for_read("redis://127.0.0.1:9/0") as connection,
        pytest.raises(OperationalError),
    ):
        connection.ensure_connection(lambda _exc, pause: pauses.append(pause), 8)
    assert len(pauses) == 8
    assert max(pauses) == LONGEST_PAUSE_SECONDS


def test_a_line_that_is_cut_in_the_first_message_is_a_lost_connection() -> None:
    """What is raised where Celery greets other workers, before its loop begins."""
    with app.connection_for_read("redis://127.0.0.1:9/0") as connection:
        retried = connection.connection_errors
        with (
            pytest.raises(retried),
            connection._reraise_as_library_errors(),  # type: ignore[no-untyped-call]
        ):
            raise redis.ConnectionError("Connection closed by server.")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis+socket://somebody:canary@/run/redis.sock", "/run/redis.sock"),
        ("redis://:canary-one@one;redis://:canary-two@two", "redis://:***@two"),
        ("sentinel://:canary-one@one;sentinel://u:canary-two@two", "u:***@two"),
    ],
)
def test_what_a_worker_tells_of_its_broker_names_no_login(
    address: str, shown: str
) -> None:
    with app.connection_for_read(address) as connection:
        facts = connection.info()
        uri = connection.as_uri()
    del facts["password"]  # Celery does so before it tells
    assert shown in str(facts)
    assert "canary" not in str(facts) + uri


@pytest.mark.parametrize("url", ["http://h", "foo://u:canary@h", "redis+foo://h"])
def test_what_is_no_broker_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSettings, match=r"broker_url: .* is no broker") as no:
        check_broker(url)
    assert "canary" not in str(no.value)


@pytest.mark.parametrize(
    "url",
    ["amqp://h", "AMQP://h", "redis+socket:///run/redis.sock", "sqla+sqlite:///f"],
)
def test_what_kombu_reads_as_a_broker_is_one(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    installed = TRANSPORT_ALIASES["memory"]
    monkeypatch.setitem(TRANSPORT_ALIASES, "sqla", installed)
    check_broker(url)
