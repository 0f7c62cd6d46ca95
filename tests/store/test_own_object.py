"""mpfora's names in an object of their own among a task's props, so that an application's own may be called alike."""

from __future__ import annotations

import json

import pytest

from mpfora.client.snapshot.rows import task_rows
from mpfora.client.snapshot.snapshot import Snapshot, TaskKeys
from mpfora.client.tasks.submit import NewTask, format_props
from mpfora.config.props import BadSetting, TaskSettings, parse_task_settings, parse_wants, read_task_settings
from mpfora.errors import InvalidTask
from mpfora.model.task import Wants
from mpfora.model.units import parse_time

#: what a Go application may call its own
THEIRS = {"retry": 3, "labels": ["a"], "memory_limit": "much", "not_before": "noon", "stop_timeout": {}, "handler": 7}


def test_the_names_of_the_application_are_its_own() -> None:
    props = {**THEIRS, "mpfora": {}}
    assert parse_task_settings(props) == TaskSettings()
    assert parse_wants(json.dumps(props)) == Wants()
    assert json.loads(format_props(NewTask("t", props))) == props


def test_the_object_holds_every_setting() -> None:
    own = {"stop_timeout": "5s", "memory_limit": "1MiB", "handler": "h", "labels": {"gpu": "yes"}}
    own["not_before"] = "2026-11-24T10:00:00Z"
    props = {**THEIRS, "mpfora": own}
    settings = read_task_settings(json.dumps(props))
    assert (settings.stop_timeout_s, settings.memory_limit) == (5.0, 2**20)
    assert parse_wants(json.dumps(props)) == Wants("h", {"gpu": "yes"}, not_before=parse_time("2026-11-24T10:00:00Z"))
    (row,) = task_rows(Snapshot(tasks={"t": TaskKeys(exists=True, props=json.dumps(props).encode())}), {}, now=0.0)
    assert row.handler == "h"


def test_a_handler_that_is_named_besides_goes_into_it() -> None:
    text = format_props(NewTask("t", {"handler": 7, "mpfora": {"retry": "metafora"}}, "h"))
    assert json.loads(text) == {"handler": 7, "mpfora": {"retry": "metafora", "handler": "h"}}
    with pytest.raises(InvalidTask, match="the handler is 'h', but its props say 'g'"):
        format_props(NewTask("t", {"mpfora": {"handler": "g"}}, "h"))


def test_what_cannot_be_meant_is_named_where_it_stands() -> None:
    with pytest.raises(BadSetting, match=r"props\.mpfora\.stop_timeout: 'soon' is not a duration"):
        parse_task_settings({"mpfora": {"stop_timeout": "soon"}})
    with pytest.raises(BadSetting, match=r"props\.mpfora\.retyr: no such setting: there are group, handler, labels"):
        parse_task_settings({"mpfora": {"retyr": {}}})


@pytest.mark.parametrize("own", [None, "x", 3, ["handler"]])
def test_something_else_of_that_name_is_the_application_s(own: object) -> None:
    assert parse_wants(json.dumps({"mpfora": own, "handler": "h"})) == Wants("h")
    assert parse_task_settings({"mpfora": own, "stop_timeout": 3}).stop_timeout_s == 3.0


@pytest.mark.parametrize("text", ['"x"', "[1]", "3", "true", "null", ""])
def test_props_that_are_no_object_ask_for_nothing(text: str) -> None:
    assert parse_wants(text) == Wants()
    assert read_task_settings(text) == TaskSettings()
