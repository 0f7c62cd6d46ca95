"""What is written can be read back; what cannot be read is refused and never taken for something else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.units import format_size, format_time, parse_duration, parse_size, parse_time

DATES = st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31, 23, 59, 59), timezones=st.just(UTC))
ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(DATES)
def test_times_come_back(at: datetime) -> None:
    written = format_time(at.timestamp())
    assert written.endswith("Z")
    assert abs(parse_time(written) - at.timestamp()) < 1e-4, "a float holds microseconds of far years roughly"
    assert format_time(parse_time(written)) == written


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), ZONES)
def test_times_of_any_zone_are_the_same_instant(at: datetime, zone: timezone) -> None:
    text = at.astimezone(zone).isoformat()
    assert parse_time(text) == at.timestamp()


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), st.integers(0, 999_999_999))
def test_nanoseconds_are_cut_to_microseconds_and_never_rounded_up(at: datetime, nanos: int) -> None:
    second = at.replace(microsecond=0, tzinfo=UTC)
    parsed = parse_time(f"{second:%Y-%m-%dT%H:%M:%S}.{nanos:09}Z")
    assert parsed == second.replace(microsecond=nanos // 1000).timestamp()


@given(st.floats(0, 36_525), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_scale_by_their_unit(value: float, unit: str) -> None:
    text = f"{value:.3f}"
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[unit]
    assert parse_duration(text + unit, "x") == float(text) * scale
    assert parse_duration(float(text), "x") == float(text) or "e" in repr(float(text))


@given(st.integers(1, 10**15))
def test_sizes_in_bytes_are_themselves(size: int) -> None:
    assert parse_size(size, "x") == parse_size(str(size), "x") == parse_size(f"{size}B", "x")


@given(st.floats(1, 2**50))
def test_sizes_for_people_are_near(size: float) -> None:
    written = format_size(size)
    assert abs(parse_size(written, "x") - size) <= max(1.0, 0.06 * size)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_by_a_value_error(text: str) -> None:
    for parse in (lambda: parse_duration(text, "x"), lambda: parse_size(text, "x"), lambda: parse_time(text)):
        try:
            value = parse()
        except ValueError:
            continue
        assert value == value
