"""Whom a rolling restart that is taken up again is for."""

from __future__ import annotations

from mpfora.cli.inputs import TIME
from mpfora.cli.rolling_restart import again_command, is_due
from mpfora.client import NodeInfo
from mpfora.model.units import format_time


def started(at_s: float) -> NodeInfo:
    return NodeInfo(
        name="n1",
        host="machine",
        pid=17,
        tasks=0,
        capacity=1,
        frozen=False,
        draining=False,
        labels={},
        handlers=(),
        started=format_time(at_s),
    )


def test_the_shown_command_means_who_was_started_in_the_second_of_the_restart_before_it() -> None:
    words = again_command(1_800_000_000.75, (("zone", "b"),))
    before_s = TIME.convert(words[words.index("--started-before") + 1], None, None)
    assert is_due(started(1_800_000_000.5), before_s)
    assert not is_due(started(1_800_000_000.9), before_s)
    assert words[-2:] == ["--label", "zone=b"]
