"""The filter grammar: what its texts mean, and what its errors say."""

from __future__ import annotations

import re

import pytest

from mpfora.client import FilterError
from mpfora.client.filters.filter import ALL, Filter, all_of, having, parse_filter
from mpfora.client.filters.matching import NO_GAUGES, Facts, Gauges, matcher
from mpfora.client.filters.pages import Order, Place, page_of, parse_order, parse_place
from mpfora.errors import BadValue, MpforaError

NOW = 1_800_000_000.0
TASKS = {
    facts.id: facts
    for facts in (
        Facts("cust-1", "failed", "n1", "train", "g1", "stalled", since=NOW - 60, attempt=3,
              props=b'{"customer":17,"tags":["a","b"],"deep":{"x.y":true},"none":null,"name":"A B"}'),
        Facts("cust-2", "runnable", "n2", "jobs:train", labels={"gpu": "yes", "a.b": "1"}, props=b'{"customer":"17"}'),
        Facts("other", "pending", props=b"not json"),
        Facts("a*b", "completed", "n1", "train", since=NOW - 7200),
        Facts("x:y@z", "sleeping", "n1", "", "", "raised", since=NOW + 5, attempt=1,
              props=b'{"mpfora":{"priority":7}}'),
    )
}  # fmt: skip
GAUGES = {"cust-2": Gauges(progress=0.5, cpu=1.5, rss=3 * 2**30, started=NOW - 10)}


def found(text: str) -> list[str]:
    matches = matcher(parse_filter(text).terms, NOW, lambda task_id: GAUGES.get(task_id, NO_GAUGES))
    return [task_id for task_id, facts in TASKS.items() if matches(facts)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", list(TASKS)),
        ("  \t ", list(TASKS)),
        ("state:failed", ["cust-1"]),
        ("state:failed,pending", ["cust-1", "other"]),
        ("-state:failed,pending,completed", ["cust-2", "x:y@z"]),
        ("state:failed handler:train", ["cust-1"]),
        ("state:pending handler:train", []),
        ("handler:jobs:train", ["cust-2"]),
        ("handler:*train", ["cust-1", "cust-2", "a*b"]),
        ('handler:""', ["other", "x:y@z"]),
        ('-handler:""', ["cust-1", "cust-2", "a*b"]),
        ("node:n?", ["cust-1", "cust-2", "a*b", "x:y@z"]),
        ("node:n1 -state:failed", ["a*b", "x:y@z"]),
        ("group:g1", ["cust-1"]),
        ("priority:>=5", ["x:y@z"]),
        ("priority:0,-3", ["cust-1", "cust-2", "other", "a*b"]),
        ("-priority:7 id:x*", []),
        ("priority:<-1", []),
        ("cause:stalled,raised", ["cust-1", "x:y@z"]),
        ("label.gpu:yes", ["cust-2"]),
        ("label.gpu:*", ["cust-2"]),
        ("-label.gpu:*", ["cust-1", "other", "a*b", "x:y@z"]),
        ('label."a.b":1', ["cust-2"]),
        ("id:cust*", ["cust-1", "cust-2"]),
        ("id:cust", []),
        ("cust", ["cust-1", "cust-2"]),
        ("-cust", ["other", "a*b", "x:y@z"]),
        ('id:"a*b"', ["a*b"]),
        ('"a*b"', ["a*b"]),
        ("id:x:y@z", ["x:y@z"]),
        ("props.customer:17", ["cust-1", "cust-2"]),
        ("props.tags:b", ["cust-1"]),
        ('props.deep."x.y":true', ["cust-1"]),
        ("props.none:null", ["cust-1"]),
        ('props.name:"A B"', ["cust-1"]),
        ("props.missing:*", []),
        ("since:1h", ["cust-1", "cust-2", "x:y@z"]),
        ("since:>1h", ["a*b"]),
        ("since:<30s", ["cust-2", "x:y@z"]),
        ("since:>=1m", ["cust-1", "a*b"]),
        ("since:2027-01-15T07:59:30Z", ["cust-2", "x:y@z"]),
        ('since:<"2027-01-15T07:59:30Z"', ["cust-1", "a*b"]),
        ("attempt:3", ["cust-1"]),
        ("attempt:>=1", ["cust-1", "x:y@z"]),
        ("progress:50%", ["cust-2"]),
        ("progress:>0.4", ["cust-2"]),
        ("-progress:>0.4", ["cust-1", "other", "a*b", "x:y@z"]),
        ("cpu:>1", ["cust-2"]),
        ("rss:>2GiB", ["cust-2"]),
        ("rss:<2GiB", []),
        ("state:runnable rss:>1MiB id:cust-?", ["cust-2"]),
    ],
)
def test_a_filter_finds(text: str, ids: list[str]) -> None:
    assert found(text) == ids


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("staet:failed", 0, "'staet' is not a field (is 'state' meant?): there are state, handler"),
        ("id:a  nodes:n1", 6, "'nodes' is not a field (is 'node' meant?)"),
        ("state:faild", 6, "'faild' is not a state (is 'failed' meant?)"),
        ("state:failed,zz", 13, "'zz' is not a state: there are pending"),
        ("state:*", 6, "'*' is not a state"),
        ("state:", 6, "a value is missing after 'state:'"),
        ("node:", 5, 'node:"" means none'),
        ("id:a,", 5, "a value is missing after 'id:a,'"),
        ("id:a,,b", 5, "a value is missing"),
        ("failed", 0, "write state:failed"),
        ("-pending", 1, "write state:pending"),
        ("-", 1, "a field and a value are needed"),
        (":x", 0, ""),
        ('id:"a', 3, "this quote has no end"),
        ('id:"a"b', 6, "'b': a blank or a comma is missing before it"),
        ('id:a"b"', 4, "a blank or a comma is missing before it"),
        ("label:x", 0, "as in label.NAME:VALUE"),
        ("props.:x", 6, "a name is missing after the dot, as in props.NAME:VALUE"),
        ("label.a.b:1", 0, 'label."a.b":VALUE'),
        ("since:soon", 6, "'soon' is neither a duration"),
        ("since:>1000000d", 6, "too long"),
        ("since:", 6, "'' is neither a duration"),
        ("attempt:many", 8, "'many' is not a number of attempt: write it as in attempt:>3"),
        ("attempt:>", 8, "'' is not a number of attempt"),
        ("attempt:-1", 8, "'-1' is not a number"),
        ("attempt:1e400", 8, "is not a number"),
        ("progress:half", 9, "progress:>50%"),
        ("rss:big", 4, "rss:>2GiB"),
        ("x," , 1, "a blank or a comma is missing"),
    ],
)  # fmt: skip
def test_an_error_names_the_culprit_and_where_it_is(text: str, position: int, words: str) -> None:
    if text == ":x":
        assert found(text) == []  # a part of an id
        return
    with pytest.raises(FilterError, match=re.escape(words)) as caught:
        parse_filter(text)
    assert caught.value.position == position
    assert str(caught.value).startswith(f"filter, at character {position + 1}: ")
    assert isinstance(caught.value, BadValue)
    assert isinstance(caught.value, MpforaError)


@pytest.mark.parametrize("value", [None, 3, b"state:failed", ["state:failed"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match="must be a text"):
        parse_filter(value)


def test_a_filter_has_bounds() -> None:
    with pytest.raises(FilterError, match="4,000"):
        parse_filter("x" * 4001)
    with pytest.raises(FilterError, match="100 terms"):
        parse_filter("x " * 101)
    assert len(parse_filter("x " * 100).terms) == 100


def test_no_glob_takes_long() -> None:
    """Each star would double the time of a matcher that goes back for all of them."""
    assert not matcher(parse_filter("id:" + "*a" * 60 + "*c").terms, NOW)(Facts("a" * 128 + "b", "failed"))
    assert matcher(parse_filter("id:" + "*a" * 60 + "*b").terms, NOW)(Facts("a" * 128 + "b", "failed"))


def test_filters_go_together() -> None:
    both = all_of(having("state", "failed"), having("handler", "a*b"), having("id", "x*", is_exact=False), ALL)
    assert str(both) == 'state:failed handler:"a*b" id:x*'
    assert parse_filter(str(both)) == both
    assert str(having("label", "yes", "gpu.kind")) == 'label."gpu.kind":"yes"'
    assert str(Filter()) == ""


def test_pages_go_through_a_list_once() -> None:
    facts = [Facts(f"t{n:02}", "failed", since=[None, 5.0, 9.0][n % 3]) for n in range(10)]
    for name in ("id", "-id", "since", "-since", "attempt"):
        order = parse_order(name)
        place = order.place(lambda _: NO_GAUGES)
        places = [place(one) for one in facts]
        whole, nothing = page_of(places, order, None, None)
        assert nothing is None
        assert sorted(one.id for one in whole) == [one.id for one in facts]
        seen: list[Place] = []
        after = None
        for _ in range(20):
            page, following = page_of(places, order, 3, after)
            assert len(page) <= 3
            seen += page
            if following is None:
                break
            after = parse_place(following, order)
        assert seen == whole, name
    newest = [
        one.id
        for one in page_of([Order("since").place(lambda _: NO_GAUGES)(f) for f in facts], Order("since"), None, None)[0]
    ]
    assert newest[:3] == ["t02", "t05", "t08"]  # the newest first
    assert newest[-4:] == ["t00", "t03", "t06", "t09"]  # those that have no time last


@pytest.mark.parametrize("text", ["", "5", "x,t1", "nan,t1", 7])
def test_a_cursor_of_another_kind_is_refused(text: object) -> None:
    with pytest.raises(BadValue, match="after: "):
        parse_place(text, Order("since"))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "name", "--id", "-", None, 3])
def test_an_order_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(BadValue, match="sort: must be one of id, since"):
        parse_order(text)  # type: ignore[arg-type]
