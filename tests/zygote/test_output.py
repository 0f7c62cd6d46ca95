"""Output by lines: nothing is lost below the rate, and everything is counted above it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.supervisor.zygote.output import (
    AGAIN_S,
    BURST,
    HALF_S,
    LINE_BYTES,
    NOTE_EVERY_S,
    PER_SECOND,
    Allowance,
    Lines,
)
from mpfora.supervisor.zygote.output_pipe import READINGS, READINGS_PER_SECOND, OutputPipe


async def test_who_prints_without_end_is_read_at_a_bounded_rate() -> None:
    """And is not blocked for ever: it goes on when it is read again."""
    reader, writer = os.pipe()
    readings, stop = 0, threading.Event()

    def write() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.write(writer, b"y\n" * 16_000)

    class Counted(OutputPipe):
        def _read(self) -> int:
            nonlocal readings
            readings += 1
            return super()._read()

    pipe = Counted(reader, lambda line: None)
    printing = threading.Thread(target=write)
    began = time.monotonic()
    printing.start()
    while readings < READINGS + 40:  # noqa: ASYNC110 - what is counted tells nobody
        await asyncio.sleep(0.01)
    assert readings <= READINGS + READINGS_PER_SECOND * (time.monotonic() - began) + 2
    stop.set()
    pipe.close()
    os.close(writer)
    await asyncio.to_thread(printing.join)


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


def test_a_progress_bar_is_shown_now_and_then_and_at_its_end() -> None:
    """As tqdm writes it: each state over the one before, ten times a second, and the end of the line at last."""
    lines, said = made()
    for tenth in range(251):
        now = tenth / 10
        lines.feed(f"\r{tenth // 10}% done".encode(), now)
        if (due := lines.half_due) is not None and due <= now:
            lines.show_half(now)
    assert said == ["1% done", "11% done", "21% done"]
    lines.feed(b"\r100% done\n", 25.5)
    assert said[-1] == "100% done"
    assert lines.half_due is None
    lines.feed(b"next\n", 25.6)
    assert said[-1] == "next"


def test_a_progress_bar_that_is_shown_whole_has_no_empty_line_after_it() -> None:
    lines, said = made()
    lines.feed(b"50%\r100%\r", 0.0)
    lines.show_half(1.0)
    lines.feed(b"\n", 1.1)
    lines.feed(b"\n", 1.2)
    assert said == ["100%", ""]


def test_a_progress_bar_longer_than_a_line_in_all_is_none_of_the_overlong_ones() -> None:
    lines, said = made()
    for percent in range(100):
        lines.feed(b"\r" + b"#" * 1000 + b"%d" % percent, 0.0)
    lines.feed(b"\n", 0.0)
    assert said == ["#" * 1000 + "99"]


def test_a_line_that_is_overwritten_after_it_was_cut() -> None:
    lines, said = made()
    lines.feed(b"x" * 2 * LINE_BYTES, 0.0)
    lines.feed(b"x\rshort", 0.0)
    lines.feed(b"er\n", 0.0)
    lines.feed(b"y" * 2 * LINE_BYTES, 0.0)
    lines.feed(b"y\rshort\n", 0.0)
    assert [line[-12:] for line in said] == ["x [line cut]", "shorter", "y [line cut]", "short"]


def test_lines_that_end_as_on_windows() -> None:
    lines, said = made()
    lines.feed(b"one\r\ntwo\r\n", 0.0)
    assert said == ["one", "two"]


def test_half_a_line_is_shown_after_a_while_and_its_rest_is_a_line() -> None:
    lines, said = made()
    lines.feed(b"whole\nloading ... ", 0.0)
    assert lines.half_due == HALF_S
    lines.show_half(HALF_S)
    assert said == ["whole", "loading ... "]
    assert lines.half_due is None
    lines.feed(b"done", 6.0)
    assert lines.half_due == HALF_S + AGAIN_S
    lines.feed(b"\n", 7.0)
    assert said == ["whole", "loading ... ", "done"]


def test_half_a_character_waits_for_its_rest() -> None:
    lines, said = made()
    text = "é→😀".encode()
    lines.feed(text[:-2], 0.0)
    lines.show_half(5.0)
    lines.feed(text[-2:] + b"\n", 6.0)
    assert said == ["é→", "😀"]


def test_half_lines_count_as_lines() -> None:
    said: list[str] = []
    lines = Lines(said.append, Allowance(tokens=0.0, per_second=0.0))
    lines.feed(b"half", 0.0)
    lines.show_half(5.0)
    lines.close(6.0)
    assert said == ["[1 lines dropped: more than 0 lines/s]"]


pieces = st.sampled_from([b"a", b"\r", b"\n", b"  ", "é".encode(), b"b" * 100, b"\r\n"])


@given(st.lists(pieces, max_size=30), st.sampled_from([1, 2, 3, 1000, 10_000]))
@settings(deadline=None)
def test_whatever_is_written_each_line_is_said_once(parts: list[bytes], step: int) -> None:
    """However the bytes come: what stands at the end of each line is said, but for what is cut."""
    lines, said = made()
    text = b"".join(parts)
    step = step if len(text) < 5000 else max(step, 100)
    for at in range(0, len(text), step):
        lines.feed(text[at : at + step], 0.0)
    lines.close(0.0)
    whole = b"".join(parts).split(b"\n")
    last = [next((part for part in reversed(line.split(b"\r")) if part.strip()), b"") for line in whole]
    expected = [line.decode(errors="replace") for line in (last if whole[-1] else last[:-1])]
    assert [line for line in said if line.strip()] == [
        line
        if len(line.encode()) <= LINE_BYTES
        else line.encode()[:LINE_BYTES].decode(errors="replace") + " [line cut]"
        for line in expected
        if line.strip()
    ]


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
