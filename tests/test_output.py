"""Output by lines: nothing is lost below the rate, and everything is counted above it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mpfora.supervisor.output import BURST, LINE_BYTES, NOTE_EVERY_S, PER_SECOND, Allowance, Lines


def made() -> tuple[Lines, list[str]]:
    said: list[str] = []
    return Lines(said.append), said


def test_lines_in_pieces() -> None:
    lines, said = made()
    for piece in (b"one\ntw", b"o\n", b"", b"\nthr", b"ee"):
        lines.feed(piece, 0.0)
    assert said == ["one", "two", ""]
    lines.close(0.0)
    assert said == ["one", "two", "", "three"]
    lines.close(0.0)
    assert len(said) == 4


def test_what_is_no_utf_8_is_shown() -> None:
    lines, said = made()
    lines.feed(b"a\xffb\n", 0.0)
    assert said == ["a\ufffdb"]


def test_an_overlong_line_is_cut_and_the_next_one_is_whole() -> None:
    lines, said = made()
    lines.feed(b"x" * LINE_BYTES + b"\n", 0.0)
    for _ in range(5):
        lines.feed(b"y" * LINE_BYTES, 0.0)
    lines.feed(b"y\nnext\n", 0.0)
    assert said == ["x" * LINE_BYTES, "y" * LINE_BYTES + " [line cut]", "next"]


def test_beyond_the_burst_lines_are_counted_with_one_note_a_second() -> None:
    lines, said = made()
    lines.feed(b"x\n" * (BURST + 500), 0.0)
    assert said[BURST:] == ["[500 lines dropped: more than 200 lines/s]"]
    lines.feed(b"x\n" * 10, 0.01)
    lines.feed(b"x\n" * 10, 0.02)
    assert lines.has_dropped
    dropped = 20 - 4  # 0.02 s let 4 lines pass
    lines.note_dropped(NOTE_EVERY_S)
    assert said[-1] == f"[{dropped} lines dropped: more than 200 lines/s]"
    assert not lines.has_dropped


def test_after_a_pause_it_may_print_again() -> None:
    allowance = Allowance()
    assert allowance.take(2 * BURST, 0.0) == BURST
    assert allowance.take(10, 0.0) == 0
    assert allowance.take(10**6, 1.0) == PER_SECOND
    assert allowance.take(10**6, 1000.0) == BURST


def test_the_end_of_a_line_that_was_dropped_is_not_taken_for_a_line() -> None:
    lines, said = made()
    lines.feed(b"x\n" * BURST + b"dropped\nbegin", 0.0)
    lines.feed(b"ning\n", 1.0)
    assert said[-1] == "beginning"


blocks = st.lists(st.tuples(st.sampled_from([b"ab", b"\n", b"x\ny\n", b"\n" * 300, b"z" * 5000]), st.floats(0, 0.5)))


@given(blocks)
def test_every_line_is_said_or_counted(parts: list[tuple[bytes, float]]) -> None:
    lines, said = made()
    now = 0.0
    for data, wait in parts:
        now += wait
        lines.feed(data, now)
    lines.close(now)
    notes = [int(match[1]) for text in said if (match := re.match(r"\[(\d+) lines dropped", text))]
    everything = b"".join(data for data, _ in parts)
    expected = everything.count(b"\n") + (not everything.endswith(b"\n") and bool(everything))
    assert len(said) - len(notes) + sum(notes) == expected
