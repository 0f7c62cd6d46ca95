"""Which tasks a filter matches, and by what lists are sorted: by a task's facts. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mpfora.client.filters.filter import NUMBER_FIELDS, Bound, Filter, Pattern, Term, Value
from mpfora.config.props import parse_wants
from mpfora.store.json_format import parse_json

_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


@dataclass(slots=True)
class Facts:
    """What of a task lists are filtered and sorted by. "" where there is none; since: Unix seconds, when its last run
    ended, None for a task that runs; props: the text that was submitted."""

    id: str
    state: str
    node: str = ""
    handler: str = ""
    group: str = ""
    cause: str = ""
    labels: Mapping[str, str] | None = None
    since: float | None = None
    attempt: int = 0
    props: bytes | None = None

    @property
    def priority(self) -> int:
        """0: it has none, or its props are not kept."""
        return parse_wants(self.props).priority if self.props and b'"priority"' in self.props else 0


class Gauges(NamedTuple):
    """What the node of a running task says of it: 0.0 to 1.0, cores, bytes, Unix seconds."""

    progress: float | None = None
    cpu: float | None = None
    rss: float | None = None
    started: float | None = None


NO_GAUGES = Gauges()
#: task id -> what is known of its run
GaugesOf = Callable[[str], Gauges]
Matcher = Callable[[Facts], bool]


def matcher(terms: Iterable[Term], now: float, gauges: GaugesOf = lambda _: NO_GAUGES) -> Matcher:
    """Says whether a task matches all of the terms. now: Unix seconds."""
    tests = [_test(term, now, gauges) for term in terms]
    if len(tests) == 1:
        return tests[0]
    return lambda facts: all(test(facts) for test in tests)


def needs_gauges(filter: Filter) -> bool:
    """Whether running tasks have to be asked of, before anybody can tell which tasks match."""
    return any(term.field in ("since", "progress", "cpu", "rss") for term in filter.terms)


def since_of(facts: Facts, gauges: GaugesOf) -> float | None:
    """When its run began, or its last run ended."""
    return gauges(facts.id).started if facts.since is None else facts.since


def _test(term: Term, now: float, gauges: GaugesOf) -> Matcher:
    test = _positive(term, now, gauges)
    return (lambda facts: not test(facts)) if term.is_not else test


def _positive(term: Term, now: float, gauges: GaugesOf) -> Matcher:
    if term.field == "since":
        return _any_of(lambda facts: since_of(facts, gauges), [_since(value, now) for value in term.values])
    if term.field in NUMBER_FIELDS:
        return _any_of(_number_of(term.field, gauges), [_bounded(value) for value in term.values])
    texts = text_test(term.values, is_part=not term.field)
    if term.field == "label":
        name = term.path[0]
        return lambda facts: bool(facts.labels) and name in (facts.labels or {}) and texts((facts.labels or {})[name])
    if term.field == "props":
        needles = _needles(term)
        return lambda facts: _may_hold(facts.props, needles) and any(map(texts, props_texts(facts.props, term.path)))
    get = operator.attrgetter(term.field or "id")
    return lambda facts: texts(get(facts))


def text_test(values: Iterable[Value], is_part: bool = False) -> Callable[[str], bool]:
    """Says whether a text is one of the patterns'. is_part: has such a part."""
    patterns = [value for value in values if isinstance(value, Pattern)]
    plain = frozenset(pattern.text for pattern in patterns if not pattern.has_wildcards)
    globs = [_glob_test(pattern.text) for pattern in patterns if pattern.has_wildcards]
    if len(globs) == 1 and not plain:
        return globs[0]
    if is_part and len(plain) == 1 and not globs:
        (only,) = plain
        return lambda text: only in text
    if is_part:
        return lambda text: any(part in text for part in plain) or any(glob(text) for glob in globs)
    if not globs:
        return plain.__contains__
    return lambda text: text in plain or any(glob(text) for glob in globs)


def _glob_test(text: str) -> Callable[[str], bool]:
    """Says whether a text is like the glob. Most globs are a beginning."""
    head = re.split(r"[*?]", text, maxsplit=1)[0]
    if text == f"{head}*":
        return lambda given: given.startswith(head)
    match = _glob(text).match
    return lambda given: match(given) is not None


def _glob(text: str) -> re.Pattern[str]:
    """Each * but the last takes as little as what follows it allows, and never more afterwards: so no text takes long
    to compare."""
    head, *rest = re.sub(r"\*+", "*", text).split("*")
    if not rest:
        return re.compile(_literal(head) + r"\Z", re.DOTALL)
    *middle, tail = rest
    inner = "".join(f"(?>.*?{_literal(part)})" for part in middle)
    return re.compile(rf"{_literal(head)}{inner}.*{_literal(tail)}\Z", re.DOTALL)


def _literal(text: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in text)


def _any_of(get: Callable[[Facts], float | None], tests: list[Callable[[float], bool]]) -> Matcher:
    def test(facts: Facts) -> bool:
        number = get(facts)
        return number is not None and any(one(number) for one in tests)

    return test


def _number_of(name: str, gauges: GaugesOf) -> Callable[[Facts], float | None]:
    if name == "attempt":
        return lambda facts: facts.attempt
    if name == "priority":
        return lambda facts: facts.priority
    get = operator.attrgetter(name)
    return lambda facts: get(gauges(facts.id))


def _bounded(value: Value) -> Callable[[float], bool]:
    assert isinstance(value, Bound)
    relation, number = _RELATIONS[value.relation], value.number
    return lambda given: relation(given, number)


def _since(value: Value, now: float) -> Callable[[float], bool]:
    """An age is compared with what is left of the time until now."""
    assert isinstance(value, Bound)
    relation, number = _RELATIONS[value.relation], value.number
    if value.is_time:
        return lambda at: relation(at, number)
    return lambda at: relation(max(0.0, now - at), number)


def _needles(term: Term) -> tuple[bytes, ...]:
    """Bytes of which one stands in every JSON text that holds one of the values; (): nothing can be said."""
    plain = [value.text for value in term.values if isinstance(value, Pattern) and not value.has_wildcards]
    is_simple = len(plain) == len(term.values) and all(re.fullmatch(r"[A-Za-z0-9_-]+", text) for text in plain)
    return tuple(text.encode() for text in plain) if is_simple else ()


def _may_hold(props: bytes | None, needles: tuple[bytes, ...]) -> bool:
    """False: surely not. To look for bytes takes less time than to parse. JSON may write any letter as an escape."""
    if props is None or not needles:
        return props is not None
    return b"\\" in props or any(needle in props for needle in needles)


def props_texts(props: bytes | None, path: tuple[str, ...]) -> list[str]:
    """The values of the props at the path, as texts: of a list each of its values. [] where there is none."""
    try:
        value: Any = parse_json(props or b"{}", "props")
    except ValueError:
        return []
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return [text for one in (value if isinstance(value, list) else [value]) if (text := _scalar(one)) is not None]


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else None
