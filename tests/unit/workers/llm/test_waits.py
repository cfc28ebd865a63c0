"""What headers and words say of waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.unit.workers.llm.mapped_errors import mapped
from workers.errors import LLMUnavailable, RateLimited
from workers.llm.waits import retry_after_seconds, used_up_seconds


def test_an_instant_stands_for_a_wait_in_any_header():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for text in (f"{soon.timestamp():.0f}", f"{soon.timestamp() * 1000:.0f}"):
        headers = {"x-ratelimit-reset-requests": text}
        assert 20 < (retry_after_seconds(headers) or 0) < 31
        headers |= {"x-ratelimit-remaining-requests": "0"}
        assert 20 < (used_up_seconds(headers) or 0) < 31


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "86400000"}, 86_400_000.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"}, None),
        ({"retry-after": f"Mon, 01 Jan 2030 00:00:00 +{'9' * 15}"}, None),
        ({"retry-after": "1m30s"}, 90.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset": "1445412480"}, 0.0),
        ({"x-ratelimit-reset": "1445412480000"}, 0.0),
        ({"anthropic-ratelimit-tokens-reset": "2015-10-21T07:28:00Z"}, 0.0),
    ],
)
def test_the_wait_is_read_from_the_headers(
    headers: dict[str, str], seconds: float | None
):
    error = mapped(429, headers=headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Rate limit reached. Please try again in 20s. Visit us.", 20.0),
        ("Please try again in 1.5s.", 1.5),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 250ms.", 0.25),
        ("Please retry after 3 seconds.", 3.0),
        ("Please wait for 2 days", None),
        ("try again later", None),
    ],
)
def test_the_wait_is_read_from_words_where_no_header_has_it(
    words: str, seconds: float | None
):
    error = mapped(429, {"error": {"message": words}})
    assert error.retry_after_seconds == seconds
    assert mapped(429, words, headers={"retry-after": "7"}).retry_after_seconds == 7


def test_the_wait_of_gemini_is_read_from_its_details():
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    body = [{"error": {"code": 429, "message": "quota", "details": [detail]}}]
    assert mapped(429, body).retry_after_seconds == 34


@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_endpoint_s_wait_is_obeyed(status: int):
    error = mapped(status, headers={"retry-after": "5"})
    assert isinstance(error, LLMUnavailable)
    assert error.retry_after_seconds == 5


def test_a_date_to_wait_for_counts_from_now():
    at = datetime.now(UTC) + timedelta(seconds=60)
    headers = {"retry-after": format_datetime(at, usegmt=True)}
    assert retry_after_seconds(headers) == pytest.approx(60, abs=2)


def test_the_longest_of_several_resets_is_waited_for():
    names = ("requests", "tokens")
    resets = dict(zip(names, ("20", "60"), strict=True))
    headers = {f"anthropic-ratelimit-{n}-reset": resets[n] for n in names}
    assert retry_after_seconds(headers) == 60
    used_up = {f"x-ratelimit-remaining-{n}": "0" for n in names}
    headers = {f"x-ratelimit-reset-{n}": f"{resets[n]}s" for n in names}
    assert retry_after_seconds(headers) == 60
    assert used_up_seconds(used_up | headers) == 60
