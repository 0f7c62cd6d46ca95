"""The values of questions to a node and of its answers. Pure.

NS/requests/NODE/N    a question, on the lease of whoever asks: gone with them
NS/answers/N/SEQ      its answer in pieces, on the same lease; not watched by nodes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.store.json_format import format_json, parse_object

#: the most bytes of one piece of an answer
PIECE_BYTES = 32 * 1024
#: characters of a piece: JSON may write one of them with six bytes, and one of ASCII's, which has passed JSON, with two
_PIECE, _ASCII_PIECE = PIECE_BYTES // 8, PIECE_BYTES // 2 - 64
STACK, PROFILE, LOG, CLUSTER, MACHINE = "stack", "profile", "log", "cluster", "machine"
#: what a question for a log may wait for more to be printed, and the most lines that it may ask back
MOST_WAIT_S, MOST_TAIL = 30.0, 1_000_000
_MOST_OFFSET = 1 << 62
#: what a profile may count, how long it may take, and how often it may look a second
BYS, MOST_S, MOST_HZ = ("wall", "cpu", "gil"), 600.0, 1000


@dataclass(frozen=True, slots=True)
class Question:
    """what: STACK, PROFILE or LOG of a task; CLUSTER: what the node knows of all nodes, and of the tasks whose ids
    stand in task_id, with commas between them; or MACHINE: what it finds on its machine. native: with the frames of C
    code. for_s, hz, by: of a profile.

    Of a log: run and fence name the run; it is read from byte `start` on, or, where `tail` is given, from so many
    lines before its end, or from the time since_ms on. Where nothing is there yet, the answer waits, for
    at most wait_s. machine: whoever asks is on this machine, and reads the files itself where the node is there too;
    is_reading: it does, and asks for nothing but the end of the run."""

    what: str
    task_id: str
    native: bool = False
    for_s: float = 15.0
    hz: int = 50
    by: str = "wall"
    run: int = 0
    fence: int = 0
    start: int = 0
    tail: int | None = None
    since_ms: int | None = None
    wait_s: float = 0.0
    machine: str = ""
    is_reading: bool = False


def format_question(question: Question) -> str:
    values: dict[str, Any] = {"what": question.what, "task": question.task_id}
    if question.what == LOG:
        values |= {"run": question.run, "fence": question.fence, "from": question.start}
        given = {"tail": question.tail, "since_ms": question.since_ms, "machine": question.machine or None}
        given |= {"reading": True if question.is_reading else None}
        values |= {"wait_s": question.wait_s} | {name: value for name, value in given.items() if value is not None}
    elif question.what == PROFILE:
        values |= {"for_s": question.for_s, "hz": question.hz, "by": question.by}
    else:
        values["native"] = question.native
    return format_json(values)


def parse_question(value: bytes | str) -> Question:
    """Raises ValueError."""
    values = parse_object(value, "question")
    what, task_id, native = values.get("what"), values.get("task"), values.get("native", False)
    if not isinstance(what, str) or not isinstance(task_id, str) or not isinstance(native, bool):
        raise ValueError('a question needs texts as "what" and "task", like {"what":"stack","task":"ID"}')
    for_s, hz, by = values.get("for_s", 15.0), values.get("hz", 50), values.get("by", "wall")
    if type(for_s) not in (int, float) or not 0 < for_s <= MOST_S:
        raise ValueError(f'question: "for_s" must be a number of seconds, {MOST_S:g} at most')
    if type(hz) is not int or not 0 < hz <= MOST_HZ:
        raise ValueError(f'question: "hz" must be a whole number from 1 to {MOST_HZ}')
    if by not in BYS:
        raise ValueError(f'question: "by" must be one of {", ".join(BYS)}')
    if what == LOG:
        return _parse_log_question(task_id, values)
    return Question(what, task_id, native, float(for_s), hz, by)


def _parse_log_question(task_id: str, values: Mapping[str, Any]) -> Question:
    numbers = {name: values.get(name, 0) for name in ("run", "fence", "from", "tail", "since_ms")}
    for name, number in numbers.items():
        if type(number) is not int or not 0 <= number <= _MOST_OFFSET:
            raise ValueError(f'question: "{name}" must be a whole number, 0 or more')
    wait_s = values.get("wait_s", 0.0)
    if type(wait_s) not in (int, float) or not 0 <= wait_s <= MOST_WAIT_S:
        raise ValueError(f'question: "wait_s" must be a number of seconds, {MOST_WAIT_S:g} at most')
    machine, is_reading = values.get("machine", ""), values.get("reading", False)
    if not isinstance(machine, str) or not isinstance(is_reading, bool):
        raise ValueError('question: "machine" must be a text, and "reading" true or false')
    tail = min(numbers["tail"], MOST_TAIL) if "tail" in values else None
    since_ms = numbers["since_ms"] if "since_ms" in values else None
    return Question(
        LOG, task_id, run=numbers["run"], fence=numbers["fence"], start=numbers["from"], tail=tail, since_ms=since_ms,
        wait_s=wait_s, machine=machine, is_reading=is_reading,
    )  # fmt: skip


def format_answer(answer: Mapping[str, Any]) -> Iterator[str]:
    """The pieces of an answer."""
    text = format_json(dict(answer))
    size = _ASCII_PIECE if text.isascii() else _PIECE
    for start in range(0, len(text), size):
        yield format_json({"more": start + size < len(text), "text": text[start : start + size]})


def parse_piece(value: bytes | str) -> tuple[str, bool]:
    """(text, whether more follows). Raises ValueError."""
    values = parse_object(value, "answer")
    text, more = values.get("text"), values.get("more")
    if not isinstance(text, str) or not isinstance(more, bool):
        raise ValueError("a piece of an answer needs its text, and whether more follows")
    return text, more


def parse_answer(text: str) -> dict[str, Any]:
    """Of all pieces together. Raises ValueError."""
    return parse_object(text, "answer")
