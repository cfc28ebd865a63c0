"""Who is let in, and as what an error is shown to those who are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from orchestrator.http.auth import KeyRing, hash_of
from orchestrator.http_settings import ApiKeySettings, HttpSettings, Scope


def ring(**options: object) -> KeyRing:
    entry = ApiKeySettings(hash=hash_of("secret"), **options)
    other = ApiKeySettings(hash=hash_of("other"), scopes=(Scope.READ,))
    return KeyRing({"mine": entry, "theirs": other}, tenant="home")


def test_a_key_is_found_by_its_hash_with_its_tenant_and_scopes() -> None:
    caller = ring(tenant="acme", scopes=(Scope.READ, Scope.CANCEL)).find("secret")
    assert caller is not None
    assert (caller.name, caller.tenant) == ("mine", "acme")
    assert caller.scopes == {Scope.READ, Scope.CANCEL}


def test_a_key_without_a_tenant_sees_that_of_the_settings() -> None:
    caller = ring().find("other")
    assert caller is not None
    assert caller.tenant == "home"


@pytest.mark.parametrize("key", ["", "Secret", "secret ", hash_of("secret"), "x" * 999])
def test_a_wrong_key_is_nobodys(key: str) -> None:
    assert ring().find(key) is None


def test_an_expired_key_is_nobodys() -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert ring(expires_at=past).find("secret") is None
    assert ring(expires_at=past + timedelta(hours=1)).find("secret") is not None


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"host": "10.0.0.2"}, "api-key"),
        ({"host": "10.0.0.1", "keys": {"a": {"hash": hash_of("k")}}}, "behind_proxy"),
        ({"tls_certificate": "cert.pem"}, "set both"),
        ({"keys": {"a": {"hash": "secret"}}}, "api-key. makes a key"),
        (
            {"keys": {"a": {"hash": hash_of("k"), "expires_at": "2030-01-01T00:00"}}},
            "time zone",
        ),
    ],
)
def test_settings_that_would_be_open_are_refused(
    fields: dict[str, object], remedy: str
) -> None:
    with pytest.raises(ValidationError, match=remedy):
        HttpSettings.model_validate(fields)


def test_others_are_served_with_keys_and_tls() -> None:
    keys = {"a": {"hash": hash_of("k")}}
    assert HttpSettings(host="10.0.0.2", keys=keys, behind_proxy=True).scheme == "http"
    files = {"tls_certificate": "cert.pem", "tls_key": "key.pem"}
    assert HttpSettings(host="::", keys=keys, **files).scheme == "https"
