"""The settings in a task's props: what they may be, and what wins."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mpfora.config.props import BadSetting, TaskSettings, parse_task_settings, read_task_settings
from mpfora.handlers import HandlerSettings
from mpfora.retry import METAFORA, Retry

NODE_RETRY = Retry(max_errors=5)


def test_props_without_settings_have_none() -> None:
    for props in ({}, {"below": 7, "timeout": "soon"}, {"retry": None, "not_before": None}):
        assert parse_task_settings(props) == TaskSettings()
        assert read_task_settings(json.dumps(props)) == TaskSettings()


def test_each_setting_is_read() -> None:
    props = {
        "stop_timeout": "90s",
        "stall_timeout": 5,
        "stall_by": "cpu",
        "memory_limit": "2GiB",
        "retry": {"max_errors": 3},
        "not_before": "2026-11-24T10:00:00+01:00",
        "labels": {"gpu": "yes"},
    }
    assert parse_task_settings(props) == TaskSettings(90, 5, "cpu", 2 * 1024**3, {"max_errors": 3}, 1795510800)
    assert read_task_settings(json.dumps(props)) == parse_task_settings(props)


def test_a_name_with_escaped_letters_is_read_too() -> None:
    assert read_task_settings('{"stop\\u005ftimeout":3}').stop_timeout_s == 3


@pytest.mark.parametrize("text", ["", "null", '"stop_timeout"', '["retry"]', '{"retry"', '{"retry":' + "[" * 100_000])
def test_what_is_no_object_has_no_settings(text: str) -> None:
    assert read_task_settings(text) == TaskSettings()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stop_timeout", "soon", "props.stop_timeout: 'soon' is not a duration"),
        ("stop_timeout", 0, "props.stop_timeout: 0: must be over 0"),
        ("stop_timeout", True, "props.stop_timeout: True is not a duration"),
        ("stall_timeout", -1, "props.stall_timeout: -1 is not a duration"),
        ("stall_timeout", [1], "props.stall_timeout: [1] is not a duration"),
        ("stall_by", "luck", "props.stall_by: 'luck'"),
        ("memory_limit", "much", "props.memory_limit: 'much' is not a size"),
        ("memory_limit", 1.5, "props.memory_limit: 1.5 is not a size"),
        ("memory_limit", -5, "props.memory_limit: -5 is not a size"),
        ("retry", 3, "props.retry: 3 is not a policy"),
        ("retry", {"delay": "soon"}, "props.retry.delay: 'soon' is not a duration"),
        ("retry", {"often": 1}, "props.retry.often: there is no such field"),
        ("not_before", "tomorrow", "props.not_before: 'tomorrow' is not an RFC 3339 time"),
        ("not_before", "2026-11-24T10:00:00", "props.not_before: '2026-11-24T10:00:00' is not an RFC 3339 time"),
        ("not_before", 1795510800, "props.not_before: 1795510800 is not an RFC 3339 time"),
        ("not_before", "9999-99-99T10:00:00Z", "props.not_before"),
        ("labels", ["gpu"], "props.labels: ['gpu']"),
        ("labels", {"gpu": 1}, "props.labels: {'gpu': 1}"),
        ("stop_timeout", "x" * 10_000, "props.stop_timeout"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_field(field: str, value: Any, words: str) -> None:
    with pytest.raises(BadSetting, match=f"^{re.escape(words)}") as caught:
        parse_task_settings({field: value})
    assert len(str(caught.value)) <= 400


def test_the_task_wins_over_the_handler_and_the_handler_over_the_node() -> None:
    handler = HandlerSettings(stop_timeout_s=1, stall_timeout_s=2, memory_limit=3, retry=Retry(max_errors=2, delay=9))
    merged = TaskSettings(stop_timeout_s=10, retry={"max_errors": 7}).over(handler, NODE_RETRY)
    assert merged == HandlerSettings(10, 2, None, 3, Retry(max_errors=7, delay=9))
    assert TaskSettings(retry="metafora").over(handler, NODE_RETRY).retry == METAFORA
    assert TaskSettings().over(HandlerSettings(), NODE_RETRY).retry == NODE_RETRY


def test_policies_that_do_not_go_together_are_an_error_of_the_task() -> None:
    handler = HandlerSettings(retry=Retry(budgets={"stalled": 900}))
    with pytest.raises(BadSetting, match=r"^props\.retry"):
        TaskSettings(retry={"max_errors": 800}).over(handler, NODE_RETRY)
