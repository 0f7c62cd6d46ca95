"""Whatever JSON is given, a spec either builds what it declares or says where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from mpfora.child.schema import BadProps, compile_schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@dataclass
class Part:
    size: int
    kind: Literal["a", "b"] = "a"


@dataclass
class Spec:
    below: int
    rate: float = 0.5
    name: str | None = None
    debug: bool = False
    parts: list[Part] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)
    either: int | str | list[int] = 0
    any: Any = None


NAMES = [each.name for each in dataclasses.fields(Spec)]
SCHEMA = compile_schema(Spec)
PARTS = st.builds(Part, st.integers(), st.sampled_from(["a", "b"]))
SPECS = st.builds(
    Spec,
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(),
    st.booleans(),
    st.lists(PARTS, max_size=3),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    st.integers() | st.text() | st.lists(st.integers(), max_size=3),
    JSON,
)


def build(props: dict[str, Any]) -> tuple[Any, str | None]:
    """The value that is built, or the problem."""
    try:
        return SCHEMA.build(props), None
    except BadProps as error:
        return None, str(error)


@given(SPECS)
def test_what_a_spec_holds_comes_back_from_its_json(spec: Spec) -> None:
    props = json.loads(json.dumps(dataclasses.asdict(spec)))
    assert SCHEMA.build(props) == spec


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), JSON, max_size=6))
def test_anything_is_built_or_refused_with_a_path(props: dict[str, Any]) -> None:
    built, problem = build(props)
    if problem is not None:
        assert problem.startswith("props")
        assert ": " in problem
        return
    assert type(built.below) is int
    assert type(built.rate) is float
    assert built.name is None or type(built.name) is str
    assert type(built.debug) is bool
    assert all(isinstance(part, Part) and type(part.size) is int for part in built.parts)
    assert all(type(size) is float for size in built.sizes.values())
    assert type(built.either) in (int, str, list)


@given(SPECS, st.sampled_from(["below", "rate", "debug", "parts", "sizes"]), JSON)
def test_one_wrong_field_is_named_and_no_other(spec: Spec, name: str, value: Any) -> None:
    props = json.loads(json.dumps(dataclasses.asdict(spec))) | {name: value}
    _, problem = build(props)
    assert problem is None or problem.startswith(f"props.{name}")
    others = [f"props.{other}" for other in NAMES if other != name]
    assert problem is None or not any(other in problem for other in others)
