"""Specs of props: what is built of which JSON, what is refused with which words, and which specs are none."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)

import pytest

from mpfora.child.schema import BadProps, compile_schema
from mpfora.child.schema.readers import BadSpec

Rate = NewType("Rate", float)
T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Layer:
    size: int
    kind: Literal["dense", "conv"] = "dense"


@dataclass(frozen=True)
class Train:
    below: int
    rate: float = 0.1
    name: str | None = None
    layers: list[Layer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    debug: bool = False
    made: str = field(default="by us", init=False)
    count: ClassVar[int] = 0


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)
    left: Optional[Tree] = None  # noqa: UP045 - people write it so


@dataclass
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low must not be over high")


class Place(TypedDict, total=False):
    city: Required[str]
    zip: int


class Job(TypedDict):
    where: Place
    urgent: NotRequired[bool]


def build(spec: Any, **props: Any) -> Any:
    return compile_schema(spec).build(props)


def problem(spec: Any, **props: Any) -> str:
    with pytest.raises(BadProps) as caught:
        build(spec, **props)
    return str(caught.value)


def of(hint: Any, value: Any) -> Any:
    """What a field of this type makes of a value."""
    return build(made(hint), x=value).x


def made(hint: Any) -> Any:
    @dataclass
    class Spec:
        x: Any

    Spec.__annotations__["x"] = hint
    return Spec


def refused(hint: Any, value: Any) -> str:
    return problem(made(hint), x=value).removeprefix("props.x: ")


# -- what is built ----------------------------------------------------------------------------------------------------


def test_a_dataclass_with_its_defaults() -> None:
    assert build(Train, below=7) == Train(7)
    layers = [{"size": 3}, {"size": 4, "kind": "conv"}]
    built = build(Train, below=7, rate=1, name="x", layers=layers, sizes={"a b": 1}, debug=True)
    assert built == Train(7, 1.0, "x", [Layer(3), Layer(4, "conv")], {"a b": 1}, True)
    assert type(built.rate) is float


def test_a_spec_that_holds_itself() -> None:
    built = build(Tree, value=1, children=[{"value": 2, "left": {"value": 3}}])
    assert built == Tree(1, [Tree(2, left=Tree(3))])
    assert problem(Tree, value=1, children=[{"value": 2, "left": {"value": "3"}}]) == (
        'props.children[0].left.value: a whole number is needed, not "3"'
    )


def test_nesting_without_end_is_a_problem_like_any_other() -> None:
    tree: dict[str, Any] = {"value": 0}
    for _ in range(5000):
        tree = {"value": 0, "left": tree}
    with pytest.raises(BadProps, match="props: nested too deep"):
        compile_schema(Tree).build(tree)


def test_a_typed_dict() -> None:
    assert build(Job, where={"city": "Oslo"}) == {"where": {"city": "Oslo"}}
    assert build(Job, where={"city": "Oslo", "zip": 7.0}, urgent=True) == {
        "where": {"city": "Oslo", "zip": 7},
        "urgent": True,
    }
    assert problem(Job, where={"zip": "x"}) == (
        'props.where.city: missing; a text is needed; props.where.zip: a whole number is needed, not "x"'
    )


TIME = datetime(2026, 11, 24, 10, 0, 0, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hint", "value", "built"),
    [
        (int, 3, 3),
        (int, 3.0, 3),
        (int, 10**30, 10**30),
        (float, 3, 3.0),
        (float, 1e300, 1e300),
        (bool, False, False),
        (str, "", ""),
        (None, None, None),
        (Any, {"a": [None]}, {"a": [None]}),
        (object, 1, 1),
        (Rate, 1, 1.0),
        (Annotated[int, "of apples"], 1, 1),
        (Final[int], 1, 1),
        (int | None, None, None),
        (Optional[int], 1, 1),  # noqa: UP045
        (int | str, "1", "1"),
        (int | str, 1, 1),
        (float | int, 1, 1),
        (int | float, 1.0, 1.0),
        (list[int] | int, [1], [1]),
        (Literal["a", 1, True, None], 1, 1),
        (Literal["a", 1, True, None], True, True),
        (Literal["a", None], None, None),
        (Literal[Color.RED], "red", Color.RED),
        (Color, "blue", Color.BLUE),
        (Level, 2, Level.HIGH),
        (list, [1, "a"], [1, "a"]),
        (list[list[int]], [[1], []], [[1], []]),
        (Sequence[int], [1], [1]),
        (tuple, [1], (1,)),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (frozenset[str], ["a"], frozenset("a")),
        (dict, {"a": 1}, {"a": 1}),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (Mapping[str, Layer], {"a": {"size": 1}}, {"a": Layer(1)}),
        (datetime, "2026-11-24T11:00:00.5+01:00", TIME),
        (timedelta, "90s", timedelta(seconds=90)),
        (timedelta, 1.5, timedelta(seconds=1.5)),
        (Path, "/tmp", Path("/tmp")),
        (Layer | None, {"size": 1}, Layer(1)),
        (Layer | Checked, {"low": 1, "high": 2}, Checked(1, 2)),
        (Place, {"city": "Oslo"}, {"city": "Oslo"}),
    ],
)
def test_types(hint: Any, value: Any, built: Any) -> None:
    found = of(hint, value)
    assert found == built
    assert type(found) is type(built)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (int, "3", 'a whole number is needed, not "3"'),
        (int, 3.5, "a whole number is needed, not 3.5"),
        (int, 1e17, "a whole number is needed, not 1e+17"),
        (int, True, "a whole number is needed, not true"),
        (int, None, "a whole number is needed, not null"),
        (float, "1", 'a number is needed, not "1"'),
        (float, False, "a number is needed, not false"),
        (float, float("inf"), "a number is needed, not Infinity"),
        (float, 10**400, f"a number is needed, not {'1' + '0' * 59}..."),
        (bool, 0, "true or false is needed, not 0"),
        (str, 7, "a text is needed, not 7"),
        (str, ["a"], 'a text is needed, not ["a"]'),
        (None, 0, "null is needed, not 0"),
        (int | None, "x", 'a whole number or null is needed, not "x"'),
        (int | str, [], "a whole number or a text is needed, not []"),
        (Literal["dense", "conv"], "dens", "\"dense\" or \"conv\" is needed, not \"dens\"; is 'dense' meant?"),
        (Literal[1, None], True, "1 or null is needed, not true"),
        (Color, "rid", "\"red\" or \"blue\" is needed, not \"rid\"; is 'red' meant?"),
        (Level, 3, "1 or 2 is needed, not 3"),
        (Level, [], "1 or 2 is needed, not []"),
        (list[int], {"a": 1}, 'a list (of a whole number) is needed, not {"a": 1}'),
        (list, "ab", 'a list is needed, not "ab"'),
        (tuple[int, str], [1], "a list of 2 (a whole number, a text) is needed, not [1]"),
        (dict[str, int], [1], "an object (of a whole number) is needed, not [1]"),
        (datetime, "10:00", 'a time with a zone (like "2026-11-24T10:00:00Z") is needed, not "10:00"'),
        (datetime, 7, 'a time with a zone (like "2026-11-24T10:00:00Z") is needed, not 7'),
        (timedelta, "soon", 'a duration (like 90 or "90s") is needed, not "soon"'),
        (timedelta, True, 'a duration (like 90 or "90s") is needed, not true'),
        (Path, 1, "a path as a text is needed, not 1"),
        (Layer, 7, "an object with size, kind is needed, not 7"),
        (Layer | None, 7, "an object (Layer) or null is needed, not 7"),
        (str, list(range(100)), f"a text is needed, not {str(list(range(100)))[:60]}..."),
    ],
)  # fmt: skip
def test_what_does_not_fit(hint: Any, value: Any, text: str) -> None:
    assert refused(hint, value) == text


def test_the_path_leads_to_the_place() -> None:
    assert problem(Train, below=1, layers=[{"size": 1}, {"size": "x"}]) == (
        'props.layers[1].size: a whole number is needed, not "x"'
    )
    assert problem(Train, below=1, sizes={"a b": None}) == 'props.sizes["a b"]: a whole number is needed, not null'
    assert problem(made(tuple[int, int]), x=[1, "2"]) == 'props.x[1]: a whole number is needed, not "2"'
    assert problem(made(Layer | None), x={"size": "1"}) == 'props.x.size: a whole number is needed, not "1"'


def test_of_several_choices_the_nearest_one_is_told_of() -> None:
    assert problem(made(Layer | Checked), x={"low": 1, "high": "2"}) == (
        'props.x.high: a whole number is needed, not "2"'
    )


def test_a_typing_error_is_found_and_suggested() -> None:
    assert problem(Train, below=1, rat=0.5) == "props.rat: there is no such field; is 'rate' meant?"
    assert problem(Train, below=1, layers=[{"size": 1, "zzz": 1}]) == (
        "props.layers[0].zzz: there is no such field; there are size, kind"
    )


def test_all_that_is_wrong_is_told_up_to_a_bound() -> None:
    text = problem(Train, rate="x", debug=1, name=[], sizes=0, layers=0, other=1)
    assert text.count(";") >= 5
    assert text.endswith("; and 2 more")


def test_missing_fields() -> None:
    assert problem(Train) == "props.below: missing; a whole number is needed"


def test_names_of_mpfora_s_own_are_no_unknown_fields_but_at_the_top() -> None:
    assert build(Train, below=1, handler="h", labels={"gpu": "yes"}, retry="metafora", not_before=None) == Train(1)
    assert "props.layers[0].handler: there is no such field" in problem(
        Train, below=1, layers=[{"size": 1, "handler": "h"}]
    )
    assert "props.left.handler: there is no such field" in problem(Tree, value=1, left={"value": 1, "handler": "h"})
    assert build(made(Any), x=1, labels=3).x == 1


def test_a_spec_may_declare_them() -> None:
    @dataclass
    class Labelled:
        labels: dict

    assert build(Labelled, labels={"a": "b"}).labels == {"a": "b"}
    assert problem(Labelled, labels=1) == "props.labels: an object is needed, not 1"


def test_a_check_of_the_spec_s_own() -> None:
    assert problem(Checked, low=2, high=1) == "props: low must not be over high"
    assert problem(made(list[Checked]), x=[{"low": 2, "high": 1}]) == "props.x[0]: low must not be over high"

    @dataclass
    class Broken:
        x: int

        def __post_init__(self) -> None:
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        build(Broken, x=1)


# -- specs that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (int, "int is not a spec of props: use a dataclass, a TypedDict or a pydantic model"),
        ("Train", "'Train' is not a spec of props"),
        (Train(1), "is not a spec of props"),
        (made(bytes), "Spec.x: bytes is not a type of props: JSON has no bytes, use str (base64 or hex)"),
        (made(complex), "Spec.x: complex is not a type of props: use two floats"),
        (made(list[bytes]), "Spec.x: bytes is not a type of props"),
        (made(dict[int, str]), "Spec.x: dict[int, str]: the keys of a JSON object are texts, write dict[str, ...]"),
        (made(T), "Spec.x: ~T is not a type of props"),
        (made(typing.Callable[[], int]), "is not a type of props"),
        (made([int]), "is not a type of props"),
        (made("Nowhere"), "Spec: its annotations cannot be resolved: name 'Nowhere' is not defined"),
        (made(Enum("Empty", {"A": (1, 2)})), "Empty: an Enum of texts or numbers is needed"),
        (made(Literal[b"x"]), "Spec.x: Literal[b'x']: texts, whole numbers, true, false and null alone"),
        (made(InitVar[int]), "Spec.x: InitVar is not a type of props: make it a field"),
    ],
)  # fmt: skip
def test_what_is_no_spec(spec: Any, text: str) -> None:
    with pytest.raises(BadSpec) as caught:
        compile_schema(spec)
    assert text in str(caught.value)


# -- pydantic ---------------------------------------------------------------------------------------------------------


def test_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Part(pydantic.BaseModel):
        size: pydantic.PositiveInt

    class Model(pydantic.BaseModel, extra="forbid"):
        below: int = pydantic.Field(alias="under")
        at: datetime | None = None
        parts: list[Part] = pydantic.Field(default_factory=list)

    built = build(Model, under=3, at="2026-11-24T10:00:00Z", parts=[{"size": 1}], handler="h")
    assert isinstance(built, Model)
    assert built.below == 3
    assert built.parts == [Part(size=1)]
    assert problem(Model, under="x", parts=[{"size": 0}]) == (
        'props.under: Input should be a valid integer, unable to parse string as an integer, not "x";'
        " props.parts[0].size: Input should be greater than 0, not 0"
    )
    assert problem(Model) == "props.under: Field required"
    assert "props.wrong: Extra inputs are not permitted" in problem(Model, under=1, wrong=2)

    assert of(Model, {"under": 1}).below == 1
    assert "props.x[0].under: Input should be" in problem(made(list[Model]), x=[{"under": "x"}])
    assert "handler: Extra inputs" in problem(made(Model), x={"under": 1, "handler": "h"})


def test_a_pydantic_model_that_cannot_be_used_is_no_spec() -> None:
    pydantic = pytest.importorskip("pydantic")

    @pydantic.dataclasses.dataclass
    class Model:
        x: int

    assert build(Model, x=1).x == 1
    assert "props.x" in problem(Model, x="y")
