"""The filter grammar: which tasks are meant, in one line of text, alike for the command line, the clients and the page.
Pure; `matching.py` says which tasks a filter matches.

    filter   terms with blanks between them; a task must match each
    term     FIELD:VALUE[,VALUE...], of which one must match; -FIELD:VALUE... matches all others. A word without a
             field is a part of an id
    VALUE    a text in which * stands for any characters and ? for one; or "any text", taken as it is; within that a
             backslash stands before a quote and before a backslash

    state    one of LISTED_STATES             handler, node, group, cause, id   texts; node:"" has none
    label.NAME, props.NAME.NAME               what the task asks of its node, and what was submitted with it
    since    1h: its run began, or its last run ended, within the last hour; >1h: before that; or a time
    attempt, priority  a number; >3, >=3, <3, <=3       progress, cpu, rss   of running tasks: >50%, >0.5 (cores), >2GiB
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpfora.client.info.task_info import LISTED_STATES
from mpfora.errors import BadValue, FilterError
from mpfora.model.units import parse_duration, parse_size, parse_time, shown

#: the longest filter, and the most terms in one
MOST_CHARACTERS = 4_000
MOST_TERMS = 100

TEXT_FIELDS = ("handler", "node", "group", "cause", "id")
NUMBER_FIELDS = ("attempt", "priority", "progress", "cpu", "rss")
#: fields that have the name of what is looked at behind a dot
PATH_FIELDS = ("label", "props")
FIELDS = ("state", *TEXT_FIELDS, *PATH_FIELDS, "since", *NUMBER_FIELDS)
_HAVING = ", ".join(f"{name}.NAME" if name in PATH_FIELDS else name for name in FIELDS)

_BLANK = re.compile(r"\s+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^\s,"]+')
_NAME = re.compile(r"[A-Za-z_]+")
#: a name behind a dot, up to the next dot or the colon
_PART = re.compile(r'[^\s,":.]+')
_RELATION = re.compile(r">=|<=|>|<")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text. is_exact: it was quoted, so that * and ? are themselves."""

    text: str
    is_exact: bool = False

    @property
    def has_wildcards(self) -> bool:
        return not self.is_exact and ("*" in self.text or "?" in self.text)


@dataclass(frozen=True, slots=True)
class Bound:
    """A number, and how the task's must stand to it: "=", ">", ">=", "<", "<=". Of `since`, the number is an age in
    seconds, or, if is_time, Unix seconds."""

    relation: str
    number: float
    text: str
    is_time: bool = False


Value = Pattern | Bound


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. field: one of FIELDS, or "" for a part of an id; path: the names behind its dot; values: of which
    one must match; is_not: none may. position: where it stands in the text."""

    field: str
    values: tuple[Value, ...]
    path: tuple[str, ...] = ()
    is_not: bool = False
    position: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Filter:
    """terms: a task must match each; () matches every task."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        """The text of the filter: `parse_filter` makes the same filter of it."""
        return " ".join(map(_format_term, self.terms))


ALL = Filter()


def parse_filter(text: Any) -> Filter:
    """The filter of a text. Raises FilterError, and BadValue for what is not a text."""
    if not isinstance(text, str):
        raise BadValue(f"filter: must be a text like 'state:failed handler:train', not {shown(text)}")
    if len(text) > MOST_CHARACTERS:
        raise FilterError(f"it has {len(text):,} characters, and may have {MOST_CHARACTERS:,}", MOST_CHARACTERS)
    return Filter(tuple(_Parser(text).terms()))


def all_of(*filters: Filter) -> Filter:
    """What all of the filters match."""
    return Filter(tuple(one for some in filters for one in some.terms))


def having(name: str, value: str, *path: str, is_exact: bool = True) -> Filter:
    """A filter of one term, for an option that stands for a field. is_exact: * and ? are themselves."""
    return Filter((Term(name, (Pattern(value, is_exact and name != "state"),), path),))


class _Parser:
    """Reads one text from its start to its end."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def terms(self) -> Iterator[Term]:
        count = 0
        while self._skip_blanks():
            count += 1
            if count > MOST_TERMS:
                raise FilterError(f"it may have {MOST_TERMS} terms", self._at)
            yield self._term()

    def _skip_blanks(self) -> bool:
        """Whether anything follows."""
        if (blank := _BLANK.match(self._text, self._at)) is not None:
            self._at = blank.end()
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _next(self, character: str) -> bool:
        """Take this character, if it is the next."""
        if not self._text.startswith(character, self._at):
            return False
        self._at += len(character)
        return True

    def _term(self) -> Term:
        start = self._at
        is_not = self._next("-")
        name_at = self._at
        name = self._take(_NAME) or ""
        path = self._path(name) if name in PATH_FIELDS and self._text.startswith(".", self._at) else ()
        if not name or not self._next(":"):
            self._at = name_at
            return Term("", (self._word(name_at),), is_not=is_not, position=start)
        self._check_field(name, path, name_at)
        values = [self._value(name)]
        while self._next(","):
            values.append(self._value(name))
        self._check_end()
        return Term(name, tuple(values), path, is_not, start)

    def _path(self, name: str) -> tuple[str, ...]:
        parts = []
        while self._next("."):
            at = self._at
            part = self._quoted() if self._text.startswith('"', at) else self._take(_PART)
            if not part:
                raise FilterError(f"a name is missing after the dot, as in {name}.NAME:VALUE", at)
            parts.append(part)
        return tuple(parts)

    def _check_field(self, name: str, path: tuple[str, ...], at: int) -> None:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f" (is {close[0]!r} meant?)" if close else ""
            raise FilterError(f"{shown(name)} is not a field{hint}: there are {_HAVING}", at)
        if name in PATH_FIELDS and not path:
            raise FilterError(f"{name} needs the name of what is meant, as in {name}.NAME:VALUE", at)
        if name == "label" and len(path) > 1:
            raise FilterError(
                f'a label has one name: quote one that has dots, as in label."{".".join(path)}":VALUE', at
            )

    def _word(self, at: int) -> Pattern:
        """A part of an id."""
        if self._text.startswith('"', at):
            word = Pattern(self._quoted(), is_exact=True)
        else:
            word = Pattern(self._take(_BARE) or "")
        self._check_end()
        if not word.text:
            raise FilterError(f"{shown(self._text[at:][:20])}: a field and a value are needed, as in state:failed", at)
        if word.text in LISTED_STATES and not word.is_exact:
            raise FilterError(f'{word.text!r} alone is a part of an id: write state:{word.text}, or "{word.text}"', at)
        return word

    def _check_end(self) -> None:
        """A term ends with a blank or the text."""
        if self._at < len(self._text) and not self._text[self._at].isspace():
            rest = self._text[self._at :].split(maxsplit=1)[0]
            raise FilterError(
                f"{shown(rest)}: a blank or a comma is missing before it, or quotes around all of it", self._at
            )

    def _quoted(self) -> str:
        start = self._at
        found = self._take(_QUOTED)
        if found is None:
            raise FilterError("this quote has no end", start)
        return re.sub(r"\\(.)", r"\1", found[1:-1], flags=re.DOTALL)

    def _value(self, name: str) -> Value:
        at = self._at
        if name in NUMBER_FIELDS or name == "since":
            relation = self._take(_RELATION) or ""
            text = self._quoted() if self._text.startswith('"', self._at) else self._take(_BARE) or ""
            return _bound(name, relation, text, at)
        if self._text.startswith('"', at):
            value = Pattern(self._quoted(), is_exact=True)
        else:
            value = Pattern(self._take(_BARE) or "")
            if not value.text:
                none = f'; {name}:"" means none' if name in ("node", "handler", "group", "cause") else ""
                raise FilterError(f"a value is missing after {self._text[:at].split()[-1]!r}{none}", at)
        if name == "state" and value.text not in LISTED_STATES:
            close = difflib.get_close_matches(value.text, LISTED_STATES, n=1)
            hint = f" (is {close[0]!r} meant?)" if close else ""
            raise FilterError(f"{shown(value.text)} is not a state{hint}: there are {', '.join(LISTED_STATES)}", at)
        return Pattern(value.text) if name == "state" else value


def _bound(name: str, relation: str, text: str, at: int) -> Bound:
    """Raises FilterError."""
    if name == "since":
        return _since(relation, text, at)
    read, example = _NUMBERS[name]
    try:
        return Bound(relation or "=", read(text), text)
    except (ValueError, OverflowError):
        raise FilterError(f"{shown(text)} is not a number of {name}: write it as in {example}", at) from None


def _since(relation: str, text: str, at: int) -> Bound:
    try:
        return Bound(relation or "<=", parse_duration(text, "since"), text)
    except ValueError as error:
        if "too long" in str(error):
            raise FilterError(str(error), at) from None
    try:
        return Bound(relation or ">=", parse_time(text), text, is_time=True)
    except ValueError:
        why = f"{shown(text)} is neither a duration, as in since:1h, nor a time, as in since:2026-11-24T10:00:00Z"
        raise FilterError(why, at) from None


def _float(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        raise ValueError(text)
    return float(text)


def _fraction(text: str) -> float:
    return _float(text[:-1]) / 100 if text.endswith("%") else _float(text)


_NUMBERS: dict[str, tuple[Callable[[str], float], str]] = {
    "attempt": (_float, "attempt:>3"),
    "priority": (lambda text: -_float(text[1:]) if text.startswith("-") else _float(text), "priority:>=5"),
    "progress": (_fraction, "progress:>50%"),
    "cpu": (_float, "cpu:>0.5 (cores)"),
    "rss": (lambda text: float(parse_size(text, "rss")), "rss:>2GiB"),
}


def _format_term(one: Term) -> str:
    name = ".".join((one.field, *map(_format_part, one.path)))
    values = ",".join(map(_format_value, one.values))
    return f"{'-' if one.is_not else ''}{name}{':' if one.field else ''}{values}"


def _format_part(part: str) -> str:
    return part if _PART.fullmatch(part) else _quote(part)


def _format_value(value: Value) -> str:
    if isinstance(value, Bound):
        relation = "" if value.relation == "=" else value.relation
        return f"{relation}{value.text if _BARE.fullmatch(value.text) else _quote(value.text)}"
    return _quote(value.text) if value.is_exact else value.text


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
