"""What headers say of waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workers.llm.waits import retry_after_seconds, used_up_seconds


def test_an_instant_stands_for_a_wait_in_any_header():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for text in (f"{soon.timestamp():.0f}", f"{soon.timestamp() * 1000:.0f}"):
        headers = {"x-ratelimit-reset-requests": text}
        assert 20 < (retry_after_seconds(headers) or 0) < 31
        headers |= {"x-ratelimit-remaining-requests": "0"}
        assert 20 < (used_up_seconds(headers) or 0) < 31
