from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orchestrator.duration import Seconds, format_seconds, parse_seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (300, 300.0),
        (0.25, 0.25),
        ("300", 300.0),
        ("300s", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("7d", 604_800.0),
        ("1d2h3m4s5ms", 93_784.005),
        (" 5M ", 300.0),
        (timedelta(minutes=5), 300.0),
    ],
)
def test_durations_read_as_people_write_them(written: object, seconds: float) -> None:
    assert parse_seconds(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", " ", "m", "5x", "5 m", "30m1h", "1e3", "٣s", "5m garbage", None, True, [], {}],
)
def test_what_is_no_duration_is_refused_with_examples(written: object) -> None:
    with pytest.raises(ValueError, match=r"not a duration .*write seconds such as 300"):
        parse_seconds(written)


@pytest.mark.parametrize(
    "written", [0, -1, "0s", "-5m", "-1", "4000d", float("inf"), 10**400]
)
def test_durations_out_of_range_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"greater than 0 and at most 3650d"):
        parse_seconds(written)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_seconds(float("nan"))


def test_a_long_text_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"\.\.\.") as error:
        parse_seconds("x" * 10_000)
    assert len(str(error.value)) < 200


@given(st.integers(min_value=1, max_value=3650 * 86_400))
def test_whole_seconds_are_written_so_that_they_read_back(seconds: int) -> None:
    assert parse_seconds(format_seconds(seconds)) == seconds


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_by_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_seconds(text) > 0


def test_a_model_field_reads_durations() -> None:
    class Model(BaseModel):
        wait: Seconds

    assert Model.model_validate({"wait": "5m"}).wait == 300.0
    with pytest.raises(ValidationError, match="not a duration"):
        Model.model_validate({"wait": "soon"})
