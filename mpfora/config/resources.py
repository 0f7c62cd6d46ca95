"""What `--has` says that a node has: KEY=AMOUNT pairs, where AMOUNT may be "auto" for what the machine can tell."""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.config.settings import SettingsError
from mpfora.linux.machine_resources import COUNTERS
from mpfora.model.needs import Needs, check_resource, make_needs, parse_amount
from mpfora.model.units import shown

AUTO = "auto"


def parse_has(pairs: Iterable[tuple[str, object]]) -> tuple[Needs, tuple[str, ...]]:
    """The node's resources, and the remarks for its log when it starts, such as why no GPU was found. Asks the machine
    where a pair says "auto". Raises SettingsError."""
    amounts: dict[str, int] = {}
    said: list[str] = []
    for name, value in pairs:
        if name in amounts:
            raise SettingsError("--has", f"{name!r} is given twice: give it once")
        try:
            amounts[check_resource(name, "a resource")] = _found(name, said) if value == AUTO else _parsed(name, value)
        except ValueError as error:
            raise SettingsError("--has", str(error)) from None
    try:
        return make_needs(amounts.items()), tuple(said)
    except ValueError as error:
        raise SettingsError("--has", str(error)) from None


def _parsed(name: str, value: object) -> int:
    try:
        return parse_amount(name, value, "")
    except ValueError as error:
        auto = f", or {AUTO}" if name in COUNTERS and "use " in str(error) else ""
        raise ValueError(f"{str(error).removeprefix('.')}{auto}") from None


def _found(name: str, said: list[str]) -> int:
    counter = COUNTERS.get(name)
    if counter is None:
        names = ", ".join(COUNTERS)
        raise ValueError(f"{name}: {shown(AUTO)}: the machine tells only {names}: write a number")
    count, why = counter()
    if why:
        said.append(f"--has {name}={AUTO}: {why}")
    return count
