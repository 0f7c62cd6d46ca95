"""The --config file: TOML with the names of the options, each value of the kind that its option takes.

TOML has kinds, so mpfora guesses nothing: a number where a text is needed is a mistake, and so is 2.9 where a whole
number is needed. Each error names the file, the line, the setting and what would be right. Pure but for the reading.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mpfora.config.settings import check_namespace
from mpfora.errors import MpforaError
from mpfora.model.units import parse_duration, parse_size, shown
from mpfora.retry import Retry, parse_retry

_MOST_BYTES = 1 << 20


class ConfigFileError(MpforaError, ValueError):
    """The file cannot be read, or a value in it is wrong. The text names the file, and the line if it is known."""


def read_config_file(path: str, names: frozenset[str]) -> dict[str, Any]:
    """Each setting of the file by its option's name, with underscores; as its option's parameter takes it. `names` are
    those that there are. Raises ConfigFileError."""
    text = _read(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of any length and lists of any depth, besides TOML's own
        raise ConfigFileError(f"{path}: not TOML: {error}") from error
    found: dict[str, Any] = {}
    for key, value in values.items():
        try:
            name, read = _read_setting(key, value, names)
            if name in found:
                raise ValueError(f"{key}: the setting is there twice: - and _ are the same in a name")
        except ValueError as error:
            raise ConfigFileError(f"{_place(path, text, key)}: {error}") from None
        found[name] = read
    return found


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:  # it may be a pipe, or a device that never ends
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigFileError(f"{path}: longer than {_MOST_BYTES} bytes: this is no file of settings")
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
        raise ConfigFileError(f"{path}: must be UTF-8 text, and is {kind}: {error}") from error


def _place(path: str, text: str, key: str) -> str:
    """The file, and the line where the key stands first."""
    pattern = re.compile(rf"""\s*\[?\s*["']?{re.escape(key)}["']?\s*(=|\]|\.)""")
    line = next((number for number, line in enumerate(text.split("\n"), 1) if pattern.match(line)), None)
    return path if line is None else f"{path}, line {line}"


def _read_setting(key: str, value: object, names: frozenset[str]) -> tuple[str, Any]:
    name = key.replace("-", "_")
    if name not in names:
        raise ValueError(f"unknown setting {key!r}; there are: {', '.join(sorted(n.replace('_', '-') for n in names))}")
    return name, _KINDS.get(name, _text)(value, key)


# -- kinds of settings ------------------------------------------------------------------------------------------------


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{key}: {_toml(value)} is not a text: write {key} = "..."')
    return value.strip()


def _texts(value: object, key: str) -> list[str]:
    """A list of texts; one text stands for a list of one."""
    if isinstance(value, str):
        return [value.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f'{key}: {_toml(value)}: a text or a list of texts is needed, like ["...", "..."]')
    return [each.strip() for each in value]


def _endpoints(value: object, key: str) -> str:
    return ",".join(_texts(value, key))


def _whole(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"{key}: {_toml(value)} is not a whole number: write it without quotes and point, like {key} = 4"
        )
    return value


def _number(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{key}: {_toml(value)} is not a number: write it without quotes, like {key} = 1.5")
    return float(value)


def _flag(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key}: {_toml(value)} is neither true nor false: write {key} = true")
    return value


def _duration(value: object, key: str) -> float:
    return parse_duration(value, key)  # type: ignore[arg-type] # it refuses other kinds


def _kept(value: object, key: str) -> str | float:
    return value if value == "forever" and isinstance(value, str) else _duration(value, key)


def _size(value: object, key: str) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{key}: {_toml(value)} is not a size: use bytes or a text like '512MiB', '2GiB'")
    return parse_size(value, key)


def _namespace(value: object, key: str) -> str:
    return check_namespace(_text(value, key), key)


def _labels(value: object, key: str) -> list[Any]:
    """A table, whose values may hold anything; or texts as the flag takes them."""
    if not isinstance(value, Mapping):
        return list(_texts(value, key))
    for name, label in value.items():
        if not isinstance(label, str):
            raise ValueError(f'{key}: {name} = {_toml(label)}: a label is a text: write {name} = "{_plain(label)}"')
    return list(value.items())


def _has(value: object, key: str) -> list[Any]:
    """A table of resources, or texts as the flag takes them."""
    if not isinstance(value, Mapping):
        return list(_texts(value, key))
    for name, amount in value.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float | str):
            raise ValueError(f"{key}: {name} = {_toml(amount)}: an amount is needed, like {name} = 2")
    return list(value.items())


def _retry(value: object, key: str) -> list[Any]:
    """A table of the policy's fields, or texts as the flag takes them."""
    if not isinstance(value, Mapping):
        return list(_texts(value, key))
    fields = {str(name).replace("-", "_"): field for name, field in value.items()}
    parse_retry(fields, Retry(), key)
    return [fields]


def _toml(value: object) -> str:
    """A value about as the file has it."""
    return shown(value).lower() if isinstance(value, bool) else shown(value)


def _plain(value: object) -> str:
    return _toml(value).replace('"', "'")


#: an option that is not here takes a text
_KINDS: Mapping[str, Callable[[object, str], Any]] = {
    "handlers": _texts,
    "etcd": _endpoints,
    "namespace": _namespace,
    "label": _labels,
    "retry": _retry,
    "has": _has,
    "pin": _flag,
    "preempt": _flag,
    "max_tasks": _whole,
    "moves_per_minute": _whole,
    "weight": _number,
    "memory_limit": _size,
    "reload_on_change": _flag,
    "keep_finished": _kept,
    **dict.fromkeys(
        ("lease_ttl", "stop_timeout", "stall_timeout", "save_every", "rejoin_grace", "import_timeout"), _duration
    ),
}
