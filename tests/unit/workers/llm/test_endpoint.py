"""An endpoint's address and headers are checked before anything is sent."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from workers.errors import InvalidEndpoint
from workers.llm.endpoint import Endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:11434",
        "ftp://host/v1",
        "http://",
        "http://h:port/v1",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(url: str):
    with pytest.raises(InvalidEndpoint, match="http://localhost:11434/v1"):
        Endpoint(base_url=url)


@pytest.mark.parametrize(
    "url", ["http://me:pw-canary@h/v1", "http://h/v1?key=pw-canary", "http://h/v1#a"]
)
def test_secrets_in_the_address_are_refused_and_not_repeated(url: str):
    with pytest.raises(InvalidEndpoint, match="api_key or headers") as caught:
        Endpoint(base_url=url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("key", ["canary\nX-Evil: 1", "canary-é", "canary\x00"])
def test_a_key_that_is_no_header_is_refused_and_not_repeated(key: str):
    with pytest.raises(InvalidEndpoint, match="check the key") as caught:
        Endpoint(base_url="http://h/v1", api_key=SecretStr(key))
    assert "canary" not in str(caught.value)


def test_space_around_address_and_key_is_dropped():
    endpoint = Endpoint(base_url=" http://h/v1/ ", api_key=SecretStr("abc\n"))
    assert endpoint.base_url == "http://h/v1"
    assert endpoint.request_headers() == {"Authorization": "Bearer abc"}


@pytest.mark.parametrize("key", [None, SecretStr(""), SecretStr(" ")])
def test_an_empty_key_is_not_sent(key: SecretStr | None):
    assert Endpoint(base_url="http://h/v1", api_key=key).request_headers() == {}


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("127.0.0.1:1", True),
        ("[::1]:80", True),
        ("llm.localhost", True),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_loopback_is_recognised(host: str, is_loopback: bool):
    assert Endpoint(base_url=f"http://{host}/v1").is_loopback is is_loopback


def test_the_repr_shows_no_secret():
    endpoint = Endpoint(
        base_url="http://h/v1",
        api_key=SecretStr("canary"),
        headers={"x-key": SecretStr("canary")},
    )
    assert "canary" not in repr(endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "http://a b/v1",
        "http://h/v1\nX: y",
        "http://h/a b",
        "http://a..b/v1",
        f"http://{'a' * 64}/v1",
        "http://h/\x7f",
    ],
)
def test_an_address_that_cannot_be_called_is_refused(url: str):
    with pytest.raises(InvalidEndpoint, match="no host can have"):
        Endpoint(base_url=url)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("it was sk-canary", "it was "),
        ("it was sk-can", "it was "),
        ('{"key":"sk-can', '{"key":"'),
        ("it was my pass", "it was "),
        ("it was c2stY2Fu", "it was "),
        ("a [sk-canary] b", "a [[secret]] "),
    ],
)
def test_a_text_that_was_cut_ends_before_what_may_be_begun(text: str, left: str):
    headers = {"x-word": SecretStr("my pass word")}
    endpoint = Endpoint(
        base_url="http://h/v1", api_key=SecretStr("sk-canary"), headers=headers
    )
    assert endpoint.scrub(text, is_cut=True) == left


def test_a_proxy_that_is_no_address_is_refused_and_not_repeated():
    with pytest.raises(InvalidEndpoint, match="proxy: not the http") as caught:
        Endpoint(base_url="http://h/v1", proxy=SecretStr("http://me:pw#canary@h:1"))
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
