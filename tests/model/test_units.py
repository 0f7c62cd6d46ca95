"""Durations, sizes and times as people and etcd write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mpfora.model.units import format_size, format_time, parse_duration, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (1e-7, 1e-7),
        (3e9, 3e9),
        ("36525d", 36525 * 86400),
        ("250ms", 0.25),
        ("90s", 90),
        ("10m", 600),
        ("4h", 14400),
        ("7d", 604800),
        ("1.5h", 5400),
        (" 2 s ", 2),
        ("3", 3),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1 week", "1h30m", "1e3", "nan", True, None, "٣x", -1, -0.5, float("nan"), float("inf")]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"--stop-timeout: .* is not a duration"):
        parse_duration(text, "--stop-timeout")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (512, 512),
        ("2KB", 2000),
        ("2KiB", 2048),
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("2GB", 2 * 10**9),
        ("1.5 g", 15 * 10**8),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text, "x") == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 PB", "0", "0.1", True, "1e9"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="--memory-limit: "):
        parse_size(text, "--memory-limit")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (14.2 * 2**20, "14.2 MiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert format_size(size) == text


AT = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2026-11-24T10:00:00Z", AT),
        ("2026-11-24T10:00:00.5Z", AT + 0.5),
        ("2026-11-24T10:00:00.500000999Z", AT + 0.5),
        ("2026-11-24T12:00:00+02:00", AT),
        ("2026-11-24T04:30:00-05:30", AT),
        ("2026-11-24t10:00:00z", AT),
        ("2026-11-24 10:00:00Z", AT),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        # what Go takes besides
        ("2026-11-24T10:00:00.1234567890123Z", AT + 0.123456),
        ("2026-11-24T10:00:00,5Z", AT + 0.5),
        ("2026-11-24T9:00:00-01:00", AT),
        ("2026-11-25T10:00:00+24:00", AT),
        ("2026-11-24T11:00:00+00:60", AT),
    ],
)
def test_times(text: str, unix_s: float) -> None:
    assert parse_time(text) == unix_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-24",
        "2026-11-24T10:00:00",
        "2026-13-24T10:00:00Z",
        "2026-11-24T25:00:00Z",
        "2026-11-24T10:00:00.Z",
        "1",
        "2026-11-24T10:00:00+25:00",
        "2026-11-24T10:00:00+24:61",
        "2026-11-24T100:00:00Z",
        "2026-11-24T1:0:00Z",
        "2026-11-24T10:00:00,Z",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do, some are datetime's own
        parse_time(text)


def test_times_are_written_in_utc_with_a_z() -> None:
    assert format_time(AT + 0.5) == "2026-11-24T10:00:00.5Z"
    assert format_time(AT) == "2026-11-24T10:00:00Z"
    assert format_time(AT - 0.000001) == "2026-11-24T09:59:59.999999Z"


def test_years_below_a_thousand_keep_four_digits() -> None:
    assert parse_time(format_time(-62135596800.0)) == -62135596800.0
