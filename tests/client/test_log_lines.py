"""Lines of what was printed, however it was cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora.client.logs.log_lines import LONGEST, LineCutter, LogLine
from mpfora.model.printed import LAST_BYTES, LAST_LINES, last_words

MISSING = "[1000 B are missing here: they were too much, or the disk did not take them]"


def cut(*pieces: bytes) -> list[LogLine]:
    cutter, lines = LineCutter("t", "n", 1, 1), []
    for piece in pieces:
        lines += cutter.feed(cutter.position, piece, [])
    return [*lines, *cutter.finish()]


def texts(*pieces: bytes) -> list[str]:
    return [line.text for line in cut(*pieces)]


def test_half_lines_wait_for_their_ends() -> None:
    assert texts(b"on", b"e\ntw", b"o") == ["one", "two"]


def test_a_progress_bar_is_what_it_showed_last() -> None:
    assert texts(b"10 %\r50 %\r100 %\nx\r\ny") == ["100 %", "x", "y"]
    assert texts(*[b"%d %%\r" % number for number in range(50)], b"\n") == ["49 %"]


def test_what_is_no_text_stays_visible() -> None:
    assert texts(b"\xff\xfe\0\n") == ["\ufffd\ufffd\0"]
    assert texts(b"\xc3", b"\xa9\n") == ["\xe9"]


def test_a_line_without_end_comes_in_parts() -> None:
    found = texts(*[b"x" * 10_000] * 20)
    assert "".join(found) == "x" * 200_000
    assert max(map(len, found)) <= LONGEST


@given(st.lists(st.binary(max_size=30), max_size=12))
def test_the_cutting_into_pieces_changes_nothing(pieces: list[bytes]) -> None:
    assert texts(*pieces) == texts(b"".join(pieces))


def test_what_is_missing_is_said_and_ends_the_line_before_it() -> None:
    cutter = LineCutter("t", "n", 1, 1)
    lines = [*cutter.feed(0, b"one\ntwo", []), *cutter.feed(1007, b"ree\n", [])]
    assert [(line.text, line.note) for line in lines] == [
        ("one", False), ("two", False), (MISSING, True), ("ree", False),
    ]  # fmt: skip


def test_a_line_has_the_time_of_its_first_byte() -> None:
    cutter = LineCutter("t", "n", 1, 1)
    lines = [*cutter.feed(0, b"a\nb\nc", [(0, 1000), (2, 2000), (4, 3000)]), *cutter.feed(5, b"d\ne\n", [(5, 4000)])]
    assert [(line.text, line.time) for line in lines] == [("a", 1.0), ("b", 2.0), ("cd", 3.0), ("e", 4.0)]


@given(st.binary(max_size=3 * LAST_BYTES))
def test_last_words_are_text_within_bounds(printed: bytes) -> None:
    words = last_words(printed)
    assert words.count("\n") < LAST_LINES
    assert len(words) <= LAST_BYTES


def test_last_words_begin_with_a_whole_line() -> None:
    printed = b"".join(b"line %d\n" % number for number in range(2000))
    words = last_words(printed).split("\n")
    assert words[-1] == "line 1999"
    assert words[0] == f"line {2000 - len(words)}"
    assert len(words) == LAST_LINES
    assert last_words(b"a\rb\nc") == "b\nc"
    assert last_words(b"") == ""
