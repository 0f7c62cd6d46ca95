"""Durations, sizes and times as people and etcd write them, and the bounds within which they are held. Pure.

Whatever comes from outside passes a bound here when it enters, so that no sum of two values leaves what a clock, a
float or a frame can hold. parse_ functions raise ValueError, which names the setting; format_ functions never raise.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*\Z", re.IGNORECASE)
#: RFC 3339, and the further forms that Go's time package reads: hours of one digit, a comma, zones up to +24:60
_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))\Z", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Unix seconds of the earliest and the latest time that is held: the years 1 to 9998 in UTC. What lies within them can
#: be shown in every time zone
EARLIEST_S, LATEST_S = -62_135_596_800.0, 253_370_764_799.0
#: the longest duration: a hundred years. The sum of a few of them fits every clock and timer of the kernel
MOST_S = 36_525 * 86_400.0
#: the largest size: an exbibyte
MOST_BYTES = 2**60
_SHOWN = 80


def shown(value: object) -> str:
    """A value as the text of an error shows it: bounded. Never raises, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a whole number of more digits than Python writes, nesting without end, a user's own
        text = f"<a value of type {type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def parse_duration(value: float | str, what: str) -> float:
    """Seconds of a number or of a text like "250ms", "90s", "10m", "4h", "7d"; at most a hundred years. Raises
    ValueError naming `what`."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"{what}: {shown(value)} is not a duration: use seconds or a text like '90s', '10m', '4h'")
    if seconds > MOST_S:
        raise ValueError(
            f"{what}: {shown(value)} is too long: a duration is at most {MOST_S / 86_400:.0f}d (100 years)"
        )
    return float(seconds)


def _seconds(value: object) -> float | None:
    """Not yet bounded; None: it is not a duration."""
    if isinstance(value, int | float):
        return value if not isinstance(value, bool) and 0 <= value < math.inf else None
    match = _DURATION.match(value) if isinstance(value, str) else None
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def parse_size(value: int | str, what: str) -> int:
    """Bytes of a number or of a text like "512MiB", "2GiB", "2GB"; at most an EiB. Raises ValueError naming `what`."""
    size = _bytes(value)
    if size is None:
        raise ValueError(f"{what}: {shown(value)} is not a size: use bytes or a text like '512MiB', '2GiB'")
    if size < 1:
        raise ValueError(f"{what}: {shown(value)}: a size must be over 0")
    if size > MOST_BYTES:
        raise ValueError(f"{what}: {shown(value)} is too large: a size is at most {MOST_BYTES >> 40}TiB")
    return int(size)


def _bytes(value: object) -> float | None:
    """Not yet bounded, perhaps infinite; None: it is not a size."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    match = None if isinstance(value, bool) else _SIZE.match(value if isinstance(value, str) else shown(value))
    if match is None:
        return None
    base = 1024 if match[3] else 1000
    factor: int = base ** " KMGT".index(match[2].upper() or " ")
    return float(match[1]) * factor


def counted(count: int, noun: str) -> str:
    """Like "1 node" and "1,200 nodes"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_size(size: float) -> str:
    """A size for people: "14.2 MiB"."""
    size = float(max(-MOST_BYTES, min(MOST_BYTES, size)))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """A duration as `parse_duration` takes it, in the largest unit of which it is a whole number: "4h", "90s"."""
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def format_age(seconds: float) -> str:
    """A duration for people, of two parts at most: "12s", "5m03s", "3h20m", "4d07h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time with a zone (what is finer than a microsecond is cut). Raises ValueError."""
    match = _RFC3339.match(text)
    if match is None or int(match[9] or 0) > 24 or int(match[10] or 0) > 60:
        raise ValueError(f"{shown(text)} is not an RFC 3339 time with a zone, like 2026-11-24T10:00:00.5Z")
    year, month, day, hour, minute, second = (int(match[number]) for number in range(1, 7))
    micros = int((match[7] or "0").ljust(6, "0")[:6])
    since = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - _EPOCH
    offset_s = 60 * (60 * int(match[9] or 0) + int(match[10] or 0)) * (-1 if match[8] == "-" else 1)
    # one division: the nearest float to the time as it was written
    return ((since.days * 86_400 + since.seconds - offset_s) * 1_000_000 + micros) / 1_000_000


def held_time(unix_s: float) -> float:
    """The nearest time to this that is held. What is later than the year 9998 means "never", and so does the end of
    that year. NaN becomes the earliest time."""
    if unix_s != unix_s:
        return EARLIEST_S
    return float(max(EARLIEST_S, min(LATEST_S, unix_s)))


def checked_time(unix_s: object, what: str) -> float:
    """Unix seconds that somebody gave as a number. Raises ValueError naming `what`: for what is not a number, and for a
    number outside the years 1 to 9998, which is of another unit."""
    if isinstance(unix_s, bool | str | bytes) or not hasattr(unix_s, "__float__"):
        raise ValueError(f"{what} {shown(unix_s)} is not a time: Unix seconds are needed (time.time() + 60)")
    try:
        seconds = float(unix_s)
    except Exception:  # noqa: BLE001 - of a class of the user's own
        seconds = math.inf
    if EARLIEST_S <= seconds <= LATEST_S:
        return seconds
    unit = "" if not 1e12 <= seconds < 1e20 else f" (are these {_unit(seconds)}?)"
    text = f"{what} {shown(unix_s)} is outside the years 1 to 9998"
    raise ValueError(f"{text}: Unix seconds are needed, as time.time() gives them{unit}")


def _unit(count: float) -> str:
    """The unit in which such a number would be a time of our days."""
    return "milliseconds" if count < 1e14 else "microseconds" if count < 1e17 else "nanoseconds"


def format_time(unix_s: float) -> str:
    """RFC 3339 in UTC, with microseconds where there are any: "2026-11-24T10:00:00.5Z". A time that is not held becomes
    the nearest one that is."""
    at = datetime.fromtimestamp(held_time(unix_s), UTC).replace(tzinfo=None)
    return at.isoformat(timespec="microseconds").rstrip("0").rstrip(".") + "Z"
