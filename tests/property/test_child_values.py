"""Results and checkpoints: what is taken comes back as it was, what is not is named, whatever the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.child.run.error_report import cut, cut_middle, one_line
from mpfora.child.run.json_values import BadValue, format_value, parse_value

text = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))


class Opaque:
    """No JSON, and unhelpful."""

    def __repr__(self) -> str:
        raise RuntimeError

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return str


class Sly(dict[str, Any]):
    """A dict whose methods raise."""

    def items(self) -> Any:
        raise RuntimeError("no items")

    __iter__ = keys = items


bad_leaves = st.sampled_from([b"x", {1}, 1j, object(), float("nan"), float("-inf"), "\ud800", Opaque(), 10**5000, len])


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[Any, str]:
    """A value with one bad leaf somewhere in it, and the path of that leaf."""
    value, path = draw(bad_leaves), ""
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            before, after = draw(st.lists(scalars, max_size=3)), draw(st.lists(scalars, max_size=3))
            value, path = [*before, value, *after], f"[{len(before)}]{path}"
        else:
            key = draw(st.sampled_from(["a", "b c", "ü"]))
            value, path = {**draw(st.dictionaries(st.just("0"), scalars)), key: value}, f'["{key}"]{path}'
    return value, path


@given(values)
def test_what_is_taken_comes_back(value: Any) -> None:
    json_text = format_value(value, "result", 10**9)
    back = parse_value(json_text, "result")
    assert back == value
    assert json.dumps(back) == json.dumps(value), "of the same types, too: 1, 1.0 and True are equal"


@given(spoiled())
def test_what_is_not_taken_is_named_with_its_place(spoilt: tuple[Any, str]) -> None:
    value, path = spoilt
    with pytest.raises(BadValue) as info:
        format_value(value, "result", 10**9)
    assert str(info.value).startswith(f"result{path}: ")


@given(st.dictionaries(st.integers() | st.booleans() | st.none() | st.floats() | text, scalars, min_size=1))
def test_keys_that_json_would_change_are_refused(value: dict[Any, Any]) -> None:
    if all(type(key) is str for key in value):
        assert json.loads(format_value(value, "result", 10**9)) == value
    else:
        with pytest.raises(BadValue, match="a key of type"):
            format_value({"deep": [value]}, "result", 10**9)


@given(values, st.integers(0, 40))
def test_the_limit_is_of_bytes(value: Any, limit: int) -> None:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size <= limit:
        format_value(value, "result", limit)
    else:
        with pytest.raises(BadValue, match=f"result: {size} bytes of JSON; the limit is {limit}"):
            format_value(value, "result", limit)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_json_or_is_refused(json_text: str) -> None:
    problem = ""
    try:
        value = parse_value(json_text, "props")
    except BadValue as error:
        problem = str(error)
    assert problem.startswith("props: not JSON") if problem else value == json.loads(json_text)


@given(st.text(), st.integers(16, 200))
def test_cut_texts_fit_and_are_valid(some: str, limit: int) -> None:
    for short in (cut(some, limit), one_line(some, limit)):
        assert len(short.encode()) <= limit
    assert one_line(some, limit).isprintable()


@given(st.text(), st.integers(100, 400))
def test_texts_cut_in_the_middle_fit_and_keep_both_ends(some: str, limit: int) -> None:
    some *= 5
    short = cut_middle(some, limit, limit // 3)
    assert len(short.encode()) <= limit
    whole = some.encode(errors="backslashreplace").decode()
    if len(whole.encode()) > limit:
        head, tail = short.split("\n... [")[0], short.split("left out] ...\n")[-1]
        assert whole.startswith(head)
        assert whole.endswith(tail)
    else:
        assert short == whole


def test_values_that_contain_themselves() -> None:
    ring: list[Any] = [1] * 1000
    ring.append({"again": ring})
    with pytest.raises(BadValue, match=r'result\[1000\]\["again"\]: contains itself'):
        format_value(ring, "result", 10**9)


def test_the_same_value_twice_is_no_ring() -> None:
    one = ["x"]
    assert format_value([one, one], "result", 100) == '[["x"],["x"]]'


@pytest.mark.parametrize("depth", [501, 5000, 100_000])
def test_values_that_are_nested_too_deep(depth: int) -> None:
    value: Any = None
    for _ in range(depth):
        value = [value]
    with pytest.raises(BadValue, match="nested more than 500 deep"):
        format_value(value, "result", 10**9)


def test_values_whose_methods_raise() -> None:
    with pytest.raises(BadValue, match="result: "):
        format_value([Sly(a=1)], "result", 100)


def test_tuples_become_lists_and_subclasses_their_base() -> None:
    class Number(int):
        pass

    class Name(str):
        pass

    assert format_value((1, (2,)), "result", 100) == "[1,[2]]"
    assert format_value({Name("a"): Number(3)}, "result", 100) == '{"a":3}'
