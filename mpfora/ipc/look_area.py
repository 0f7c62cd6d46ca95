"""Questions to a living run and its answers, in the run's file (run_file.py). Whoever asks rings the child afterwards.

Each kind of question has a row of words at 64 + 64 * kind, and a part of the file for the text of its answer:

    word 0  u64  asked      supervisor: the number of the question, 0 if there is none
         1  u64  rate       supervisor: looks a second, for a profile
         2  u64  for        supervisor: for so many milliseconds, for a profile
         3  u64  answered   child: the number of the question whose answer stands here; written last
         4  u64  length     child: bytes of the answer
         5  u64  by         supervisor: what a profile counts: 0 elapsed time, 1 processor time
         6  u64  finished   child: the number of the question whose answer, a profile, grows no more

A child may be hostile: what it writes spoils its own answers alone, and what is read of it is bounded.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from mpfora.ipc.run_file import ANSWERS_AT, ANSWERS_BYTES

#: what may be asked: the stacks of all threads; a profile of them; and the stacks again, by the zygote, when half of a
#: stall_timeout is over
STACK, PROFILE, HALFWAY = 0, 1, 2
#: what a profile counts
BY_WALL, BY_CPU = 0, 1
#: the longest answer of each kind
LONGEST = (256 * 1024, ANSWERS_BYTES - 320 * 1024, 64 * 1024)
_TEXT_AT = (ANSWERS_AT, ANSWERS_AT + LONGEST[STACK], ANSWERS_AT + LONGEST[STACK] + LONGEST[PROFILE])
_ROW_AT = (64, 128, 192)
_QUESTION = struct.Struct("=QQQ")
_WORD = struct.Struct("=Q")
_ANSWERED_AT, _LENGTH_AT, _BY_AT, _FINISHED_AT = 24, 32, 40, 48
_ANSWER = struct.Struct("=QQ")


class Question(NamedTuple):
    """number: never used before for this run, and not 0. rate_hz and for_ms: of a profile."""

    number: int
    rate_hz: int = 0
    for_ms: int = 0
    by: int = BY_WALL


# -- who asks ----------------------------------------------------------------------------------------------------------


def ask(fd: int, kind: int, question: Question) -> None:
    """Put a question, in the place of an earlier one of its kind. The child sees it when it is rung. Raises OSError."""
    os.pwrite(fd, _WORD.pack(question.by), _ROW_AT[kind] + _BY_AT)
    os.pwrite(fd, _QUESTION.pack(*question[:3]), _ROW_AT[kind])


def withdraw(fd: int, kind: int) -> None:
    """Nobody waits for the answer any more. Raises OSError."""
    os.pwrite(fd, _QUESTION.pack(0, 0, 0), _ROW_AT[kind])


def answer(fd: int, kind: int, number: int) -> bytes | None:
    """The answer to a question, None while there is none. Raises OSError."""
    answered, length = _answered(fd, kind)
    return os.pread(fd, min(length, LONGEST[kind]), _TEXT_AT[kind]) if answered == number else None


def is_finished(fd: int, kind: int, number: int) -> bool:
    """Whether the answer to a question that takes its time is whole. Raises OSError."""
    return _word(fd, _ROW_AT[kind] + _FINISHED_AT) == number


def answer_to_last(fd: int, kind: int) -> tuple[int, bytes] | None:
    """(number, answer) of the question that stands there, None where it has none. Raises OSError."""
    number = _word(fd, _ROW_AT[kind])
    found = answer(fd, kind, number) if number else None
    return None if found is None else (number, found)


# -- the child ---------------------------------------------------------------------------------------------------------


def question(fd: int, kind: int) -> Question | None:
    """The question that waits for an answer, None if there is none. Raises OSError."""
    number, rate_hz, for_ms = _QUESTION.unpack(os.pread(fd, _QUESTION.size, _ROW_AT[kind]))
    if number in (0, _answered(fd, kind)[0]):
        return None
    return Question(number, rate_hz, for_ms, _word(fd, _ROW_AT[kind] + _BY_AT))


def reply(fd: int, kind: int, number: int, text: bytes) -> None:
    """Answer a question. What is too long is cut. Called by one thread at a time for each kind. Raises OSError."""
    length = os.pwrite(fd, text[: LONGEST[kind]], _TEXT_AT[kind])
    os.pwrite(fd, _WORD.pack(length), _ROW_AT[kind] + _LENGTH_AT)
    os.pwrite(fd, _WORD.pack(number), _ROW_AT[kind] + _ANSWERED_AT)


def asked(fd: int, kind: int) -> int:
    """The number of the question that stands there; 0: nobody asks. Raises OSError."""
    return _word(fd, _ROW_AT[kind])


def finish(fd: int, kind: int, number: int) -> None:
    """The answer to this question is whole. Raises OSError."""
    os.pwrite(fd, _WORD.pack(number), _ROW_AT[kind] + _FINISHED_AT)


def _answered(fd: int, kind: int) -> tuple[int, int]:
    number, length = _ANSWER.unpack(os.pread(fd, _ANSWER.size, _ROW_AT[kind] + _ANSWERED_AT))
    return number, length


def _word(fd: int, at: int) -> int:
    (word,) = _WORD.unpack(os.pread(fd, _WORD.size, at))
    return int(word)
