"""Questions to nodes and their answers, as they stand in the store."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.cluster.changes import Asked
from mpfora.cluster.decode import parse_revision
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision
from mpfora.store.question_records import (
    BYS,
    LOG,
    PIECE_BYTES,
    PROFILE,
    STACK,
    Question,
    format_answer,
    format_question,
    parse_answer,
    parse_piece,
    parse_question,
)

LAYOUT = Layout("ns")


@given(st.text(), st.booleans())
def test_a_question_comes_back(task_id: str, native: bool) -> None:
    question = Question(STACK, task_id, native)
    assert parse_question(format_question(question)) == question


@given(st.floats(0.001, 600), st.integers(1, 1000), st.sampled_from(BYS))
def test_so_does_one_for_a_profile(for_s: float, hz: int, by: str) -> None:
    question = Question(PROFILE, "t1", for_s=for_s, hz=hz, by=by)
    assert parse_question(format_question(question)) == question


@pytest.mark.parametrize(
    "more",
    [
        '"for_s":0',
        '"for_s":601',
        '"for_s":"1"',
        '"for_s":true',
        '"hz":0',
        '"hz":1001',
        '"hz":1.5',
        '"by":"luck"',
        '"by":[]',
    ],
)
def test_bounds_of_a_profile_are_said(more: str) -> None:
    with pytest.raises(ValueError, match=more[1 : more.index(":") - 1]):
        parse_question(f'{{"what":"profile","task":"t1",{more}}}')


@given(st.text(), st.integers(0, 1 << 62), st.text(), st.booleans())
def test_so_does_one_for_a_log(task_id: str, start: int, machine: str, is_reading: bool) -> None:
    question = Question(LOG, task_id, run=2, fence=7, start=start, machine=machine, is_reading=is_reading)
    assert parse_question(format_question(question)) == question


@pytest.mark.parametrize("more", ['"machine":1', '"reading":"yes"', '"run":-1', '"from":"0"', '"wait_s":31'])
def test_what_is_no_question_for_a_log_is_said(more: str) -> None:
    with pytest.raises(ValueError, match=more[1 : more.index(":") - 1]):
        parse_question(f'{{"what":"log","task":"t1",{more}}}')


@pytest.mark.parametrize(
    "text", ["", "1", "{}", '{"what":"stack"}', '{"what":1,"task":"t"}', '{"what":"s","task":"t","native":1}']
)
def test_what_is_no_question_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="question"):
        parse_question(text)


@given(st.text(max_size=50).map(lambda text: text * 700))
def test_an_answer_comes_in_pieces_that_are_small_and_together_are_it(text: str) -> None:
    pieces = list(format_answer({"stack": text}))
    assert all(len(piece.encode()) <= PIECE_BYTES for piece in pieces)
    read = [parse_piece(piece) for piece in pieces]
    assert [more for _, more in read] == [True] * (len(read) - 1) + [False]
    assert parse_answer("".join(part for part, _ in read)) == json.loads(json.dumps({"stack": text}))


def test_the_watch_tells_of_questions_beside_the_changes_and_never_as_one() -> None:
    events = (
        Event(LAYOUT.request("n1", "7"), b"x", False, 5, 5),
        Event(LAYOUT.request("n2", "8"), b"", True, 0, 5),
        Event(f"{LAYOUT.requests}n1", b"x", False, 5, 5),
        Event(f"{LAYOUT.requests}n1/a/b", b"x", False, 5, 5),
        Event(LAYOUT.answer("7", 0), b"x", False, 5, 5),
    )
    changes = parse_revision(LAYOUT, Revision(5, events))
    assert changes.changes == ()
    assert changes.asked == (Asked("n1", "7"), Asked("n2", "8", is_gone=True))


def test_questions_are_watched_and_answers_are_not() -> None:
    start, end = LAYOUT.watched
    assert start <= LAYOUT.request("n1", "7") < end
    assert not start <= LAYOUT.answer("7", 0) < end
