"""The pure parts: patches, percentiles, what is hidden, the description of the API, what is vendored."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpfora.web
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.web.charts import Charts, Ended, Point, percentile
from mpfora.web.openapi import SCHEMAS, document
from mpfora.web.operations import OPERATIONS
from mpfora.web.redaction import HIDDEN, redacted
from mpfora.web.stream import patch

STATIC = Path(mpfora.web.__file__).parent / "static"
PATTERN = re.compile("password|token", re.IGNORECASE)


def apply(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As the page does (net.js, patched)."""
    after = dict(before)
    for name, value in changes.items():
        if isinstance(value, dict) and "keys" in value:
            known = {row[value["key"]]: row for row in before.get(name, ())} | value["rows"]
            after[name] = [known[key] for key in value["keys"]]
        else:
            after[name] = value
    return after


rows = st.lists(
    st.fixed_dictionaries({"id": st.text(max_size=3), "n": st.integers(0, 3)}),
    max_size=6,
    unique_by=lambda row: row["id"],
)
views = st.fixed_dictionaries({"tasks": rows, "total": st.integers(0, 9), "next": st.none() | st.text(max_size=2)})


@given(views, views)
def test_a_patch_makes_of_what_was_what_is(before: dict[str, Any], after: dict[str, Any]) -> None:
    first = apply({}, json.loads(json.dumps(patch({}, before))))
    assert first == before
    assert apply(first, json.loads(json.dumps(patch(before, after)))) == after
    assert patch(after, after) == {}


def test_a_patch_has_the_rows_that_changed_alone() -> None:
    before = {"tasks": [{"id": "a", "n": 1}, {"id": "b", "n": 1}]}
    after = {"tasks": [{"id": "b", "n": 2}, {"id": "a", "n": 1}]}
    assert patch(before, after) == {"tasks": {"key": "id", "keys": ["b", "a"], "rows": {"b": {"id": "b", "n": 2}}}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("my_password"), inner, max_size=3),
)


@given(json_values)
def test_what_is_under_a_hidden_name_is_nowhere(value: Any) -> None:
    secret = "S3CRET"
    shown = json.dumps(redacted({"a": [value, {"Token-2": {"x": [secret]}}], "password": secret}, PATTERN))
    assert secret not in shown
    assert HIDDEN in shown


def test_other_values_stay_as_they_are() -> None:
    value = {"a": [1, None, {"b": "password"}]}
    assert redacted(value, PATTERN) == value


def test_a_value_that_is_nested_without_end_has_one() -> None:
    value: Any = "x"
    for _ in range(5_000):
        value = [value]
    assert HIDDEN in json.dumps(redacted(value, PATTERN))


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.5, None), ([1.0], 0.95, 1.0), ([1.0, 2.0, 3.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.95, 95.0)],
)
def test_percentiles_are_values_that_there_were(values: list[float], share: float, found: float | None) -> None:
    assert percentile(values, share) == found


def test_charts_forget_after_15_minutes_and_what_had_ended_before_is_no_peak() -> None:
    charts = Charts()
    old = Ended("t", "train", "failed", "raised", 0.0, 3.0)
    charts.step(Point(10.0, {"runnable": 2}, 1, 4), [old])
    assert charts.to_json()["ended"]["failed"] == [0]
    assert charts.of_handlers(10.0)["train"]["failures"] == {"raised": 1}
    charts.step(Point(15.0, {}, 1, 4), [Ended("u", "train", "completed", "completed", 14.0, 1.0)])
    assert charts.to_json()["ended"]["completed"] == [0, 1]
    assert charts.of_handlers(15.0)["train"]["median_s"] == 1.0
    for n in range(4, 400):
        charts.step(Point(5.0 * n, {}, 1, 4), [])
    assert charts.of_handlers(2_000.0) == {}
    assert len(charts.to_json()["at"]) == 180


def test_the_document_describes_each_operation_and_each_shape() -> None:
    made = json.loads(json.dumps(document("/x")))
    described = {(method.upper(), path) for path, methods in made["paths"].items() for method in methods}
    assert described == {(one.method, one.path) for one in OPERATIONS}
    names = [one["operationId"] for methods in made["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    for name, row in (("Task", TaskInfo("t", "pending")), ("Node", _node())):
        assert set(SCHEMAS[name]["properties"]) == set(row.to_json())


def _node() -> NodeInfo:
    return NodeInfo("n", "h", 1, 0, None, False, False, {}, "", ())


def test_what_is_vendored_is_what_it_says() -> None:
    folder = STATIC / "vendor"
    listed = tomllib.loads((folder / "VENDORED.toml").read_text())
    files = {one["file"] for one in listed.values()} | {
        name for one in listed.values() for name in one["licence-files"]
    }
    assert files | {"VENDORED.toml"} == {path.name for path in folder.iterdir()}
    for one in listed.values():
        assert hashlib.sha256((folder / one["file"]).read_bytes()).hexdigest() == one["sha256"]


def test_the_page_is_small_and_asks_nobody_else() -> None:
    ours = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in ours if "LICENSE" not in path.name) < 180_000
    for path in ours:
        if path.suffix in (".js", ".html", ".css") and path.parent.name != "vendor":
            text = path.read_text()
            assert not re.search(r"https?://(?!www\.w3\.org)", text), path
            assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(", text), path
