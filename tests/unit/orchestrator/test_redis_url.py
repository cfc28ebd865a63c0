from __future__ import annotations

import pytest
from kombu import Connection
from redis import Redis

from orchestrator.redis_url import check_redis_url, for_kombu, redact


@pytest.mark.parametrize(
    ("given", "kept", "kombu"),
    [
        ("redis://h:1/2", "redis://h:1/2", "redis://h:1/2"),
        (
            "rediss://u:p@h/0",
            "rediss://u:p@h/0",
            "rediss://u:p@h/0?ssl_cert_reqs=required",
        ),
        ("redis://h:1/0?db=2", "redis://h:1/0?db=2", "redis://h:1/2"),
        ("redis://h?db=2", "redis://h?db=2", "redis://h/2"),
        (
            "rediss://h/1?socket_timeout=3&ssl_cert_reqs=none",
            "rediss://h/1?socket_timeout=3&ssl_cert_reqs=none",
            "rediss://h/1?ssl_cert_reqs=none",
        ),
        (
            "redis://h/1?username=u&password=p%40s",
            "redis://h/1?username=u&password=p%40s",
            "redis://u:p%40s@h/1",
        ),
        ("redis://u@h?password=p", "redis://u@h?password=p", "redis://u:p@h"),
        (
            "rediss://h?ssl_ca_certs=/ca",
            "rediss://h?ssl_ca_certs=/ca",
            "rediss://h?ssl_ca_certs=%2Fca&ssl_cert_reqs=required",
        ),
        ("unix:///a/b", "unix:///a/b", "redis+socket:///a/b"),
        (
            "unix://:p@/a/b?db=2",
            "unix://:p@/a/b?db=2",
            "redis+socket://:p@/a/b?virtual_host=2",
        ),
        (
            "unix:///a/b?db=2&password=p",
            "unix:///a/b?db=2&password=p",
            "redis+socket://:p@/a/b?virtual_host=2",
        ),
        (
            "redis+socket:///a/b?virtual_host=2",
            "unix:///a/b?db=2",
            "redis+socket:///a/b?virtual_host=2",
        ),
    ],
)
def test_one_url_serves_both_clients(given: str, kept: str, kombu: str) -> None:
    assert check_redis_url(given) == kept
    assert for_kombu(kept) == kombu


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@h:1/0?db=2&socket_timeout=3",
        "redis://h:1?db=2&health_check_interval=9",
    ],
)
def test_both_clients_read_the_same_database(url: str) -> None:
    checked = check_redis_url(url)
    ours = Redis.from_url(checked).connection_pool.connection_kwargs["db"]
    assert Connection(for_kombu(checked)).virtual_host == str(ours) == "2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://u%3A:p%40s%2F%23@h:1/0",
        "redis://h:1/0?username=u%3A&password=p%40s%2F%23",
        "redis://u%3A@h:1/0?password=p%40s%2F%23",
    ],
)
def test_both_clients_log_in_with_the_same_words(url: str) -> None:
    checked = check_redis_url(url)
    ours = Redis.from_url(checked).connection_pool.connection_kwargs
    theirs = Connection(for_kombu(checked))
    assert theirs.userid == ours["username"] == "u:"
    assert theirs.password == ours["password"] == "p@s/#"  # noqa: S105


def test_each_server_of_several_is_written_for_kombu() -> None:
    given = "redis://h/1?socket_timeout=1;unix:///a/b?db=2;sentinel://g"
    kombu = "redis://h/1;redis+socket:///a/b?virtual_host=2;sentinel://g"
    assert for_kombu(given) == kombu


def test_other_brokers_urls_are_left_alone() -> None:
    assert for_kombu("amqp://u:p@h//") == "amqp://u:p@h//"


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://:secret@h", "redis://:se;cret@h",
     "redis://:secret@h;redis://:secret@h", "redis://:secret@[::1",
     "redis://:secret@h:99999", "unix://:secret@", "redis://:secret@h:x",
     "redis://:secret@h/acme", "redis://:secret@h/-1", "redis://:secret@h?db=acme",
     "unix://:secret@/s?db=acme", "redis://:secret@h/1/2"],
)  # fmt: skip
def test_what_is_no_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="write") as error:
        check_redis_url(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://:secret@h:1/2", "redis://:***@h:1/2"),
        ("redis://user:se@cret@h/2?password=secret&db=3", "redis://user:***@h/2?db=3"),
        ("unix:///a/b?db=1", "unix:///a/b?db=1"),
        ("redis://[secret", "(not a URL)"),
        ("redis://:secret@h;redis://u:secret@g/1", "redis://:***@h;redis://u:***@g/1"),
        (
            "sentinel://:secret@h;sentinel://:secret@g",
            "sentinel://:***@h;sentinel://:***@g",
        ),
        ("redis://:se;cret@h", "redis://:***@h"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    assert redact(url) == shown
