"""Durations, sizes and times as people and etcd write them. Pure: parse_/format_ pairs, errors that name the
setting."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*\Z", re.IGNORECASE)
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-]\d{2}:\d{2}))\Z")


def parse_duration(value: float | str, what: str) -> float:
    """Seconds of a number or of a text like "250ms", "90s", "10m", "4h", "7d". Raises ValueError naming `what`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{what}: {value!r} is no duration: use seconds or a text like '90s', '10m', '4h'")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(value: int | str, what: str) -> int:
    """Bytes of a number or of a text like "512MiB", "2GiB", "2GB". Raises ValueError naming `what`."""
    match = None if isinstance(value, bool) else _SIZE.match(str(value))
    if match is None:
        raise ValueError(f"{what}: {value!r} is no size: use bytes or a text like '512MiB', '2GiB'")
    base = 1024 if match[3] else 1000
    size = int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))
    if size <= 0:
        raise ValueError(f"{what}: {value!r}: a size must be over 0")
    return size


def format_size(size: float) -> str:
    """A size for people: "14.2 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time with a zone and up to nanoseconds (what is finer than a microsecond is cut).
    Raises ValueError."""
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 time with a zone, like 2026-11-24T10:00:00.5Z")
    micros = (match[3] or "0").ljust(6, "0")[:6]
    zone = "+00:00" if match[4] else match[5]
    return datetime.fromisoformat(f"{match[1]}T{match[2]}.{micros}{zone}").timestamp()


def format_time(unix_s: float) -> str:
    """RFC 3339 in UTC with microseconds where there are any: "2026-11-24T10:00:00.5Z"."""
    at = datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None)
    return at.isoformat(timespec="microseconds").rstrip("0").rstrip(".") + "Z"
