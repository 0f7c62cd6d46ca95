"""What is said of a task that no live node can run, since none has as much as it needs."""

from __future__ import annotations

from typing import Any

import pytest

from mpfora.client.tasks.submit import NewTask
from mpfora.client.tasks.unmet_needs import unmet
from mpfora.model.task import Member

SMALL = Member("n1", handlers=("train",), has=(("gpus", 1), ("memory", 1 << 30)))
LARGE = Member("n2", handlers=("train", "other"), has=(("gpus", 4),), needs={"other": (("licence", 1),)})
MEMBERS = {"n2": LARGE, "n1": SMALL}


def test_it_names_what_is_short_and_where() -> None:
    (line,) = unmet([NewTask("t", {"needs": {"gpus": 8}}, "train")], MEMBERS)
    assert line == (
        "task 't' waits: no node has 8 gpus: n1 has 1, n2 has 4; start one with --has gpus=8, or submit it with less in"
        " needs"
    )


def test_what_a_handler_declares_counts_too() -> None:
    (line,) = unmet([NewTask("t", None, "other")], MEMBERS)
    assert "no node has 1 licence: n2 has none" in line


@pytest.mark.parametrize(
    ("props", "handler"),
    [
        ({"needs": {"gpus": 4}}, "train"),
        ({"needs": {"gpus": 1, "memory": "1GiB"}}, "train"),
        ({"needs": {}}, "other"),
        ({"needs": "all"}, "train"),  # its run says what is wrong
        ({"needs": {"gpus": 8}}, "nobody-has-it"),  # that is another reason
        ({"handler": 3}, None),
        (None, None),
    ],
)
def test_nothing_is_said_of_others(props: Any, handler: str | None) -> None:
    assert unmet([NewTask("t", props, handler)], MEMBERS) == []
    assert unmet([NewTask("t", props, handler)], {}) == []
