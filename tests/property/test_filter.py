"""Any text as a filter: it is refused, and the error names the place; or it means the same after it was written and
read again."""

from __future__ import annotations

import fnmatch
import re

from hypothesis import given
from hypothesis import strategies as st

from mpfora.client.filters.filter import FIELDS, FilterError, Pattern, Term, parse_filter
from mpfora.client.filters.matching import NO_GAUGES, Facts, Gauges, matcher, text_test
from mpfora.client.info.task_info import LISTED_STATES

some_text = st.one_of(st.text(max_size=8), st.text(alphabet='ab*?":,.-\\ ', max_size=10))
words = st.sampled_from(
    ["state:failed", "-id:a*", "since:>1h", "props.a.b:1", 'node:""', '"', ":", ",", "-", "label.", "x", "state:", " "]
)
texts = st.one_of(
    st.text(max_size=40), st.lists(words, max_size=8).map(" ".join), st.lists(words, max_size=8).map("".join)
)
facts = st.builds(
    Facts, some_text, st.sampled_from(LISTED_STATES), some_text, some_text, some_text, some_text,
    labels=st.one_of(st.none(), st.dictionaries(some_text, some_text, max_size=2)),
    since=st.one_of(st.none(), st.floats(0, 2e9)), attempt=st.integers(0, 5),
    props=st.one_of(st.none(), st.binary(max_size=9), st.sampled_from([b'{"a":{"b":1}}', b"[1]", b'{"a":[{},1e400]}'])),
)  # fmt: skip


@given(text=texts)
def test_a_text_means_one_filter_or_is_refused_at_a_place(text: str) -> None:
    place, one = 0, None
    try:
        one = parse_filter(text)
    except FilterError as error:
        place = error.position
    assert 0 <= place <= len(text)
    if one is None:
        return
    assert parse_filter(str(one)) == one
    assert str(parse_filter(str(one))) == str(one)


@given(value=some_text, name=st.sampled_from([name for name in FIELDS if name in ("id", "node", "handler", "group")]))
def test_any_value_can_be_quoted(value: str, name: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    (term,) = parse_filter(f'{name}:"{quoted}"').terms
    assert term == Term(name, (Pattern(value, is_exact=True),))
    assert matcher((term,), 0.0)(Facts(value, "failed", value, value, value))


@given(text=texts, one=facts, now=st.floats(0, 2e9))
def test_a_filter_answers_for_every_task(text: str, one: Facts, now: float) -> None:
    try:
        terms = parse_filter(text).terms
    except FilterError:
        return
    answers = [matcher((term,), now, lambda _: Gauges(0.5, 1.0, 5.0, 3.0))(one) for term in terms]
    assert all(isinstance(answer, bool) for answer in answers)
    assert matcher(terms, now, lambda _: Gauges(0.5, 1.0, 5.0, 3.0))(one) == all(answers)
    for term in terms:
        turned = Term(term.field, term.values, term.path, not term.is_not)
        assert matcher((turned,), now)(one) != matcher((term,), now, lambda _: NO_GAUGES)(one)


@given(pattern=st.text(alphabet="ab*?.[\\\n", max_size=8), text=st.text(alphabet="ab.[\\\n", max_size=8))
def test_globs_are_those_that_everybody_knows(pattern: str, text: str) -> None:
    expected = re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.DOTALL).match(text) is not None
    assert text_test([Pattern(pattern)])(text) == expected
