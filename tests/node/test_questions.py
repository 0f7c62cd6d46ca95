"""How a node's shell answers questions: after what it has to write, within bounds, and for nobody who has gone."""

from __future__ import annotations

import asyncio
from typing import Any

from mpfora.cluster.changes import Asked
from mpfora.store.kv import Space
from mpfora.store.question_records import MACHINE, STACK, Question, format_question, parse_answer, parse_piece
from mpfora.supervisor import questions
from mpfora.supervisor.answer_room import why_full
from mpfora.supervisor.questions import AT_ONCE, OF_ONE, Questions
from mpfora.supervisor.zygote.live_stack import Ended, LiveStack


class World:
    """Coordinator and zygote in one. The number of a question begins with the lease that the question hangs on."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.is_busy = False
        self.look = asyncio.Event()
        self.looked = 0
        self.looks = self
        self.gone: set[str] = set()
        self.what, self.spaces = STACK, 0
        self.questions = Questions("n1", self, self, lambda: self.is_busy, {MACHINE: self.machine})  # type: ignore[arg-type]

    space_now = Space(100, 1000)

    async def space(self) -> Space:
        self.spaces += 1
        return self.space_now

    async def question(self, node: str, number: str) -> tuple[str, int] | None:
        return format_question(Question(self.what, "t1")), int(number[0])

    async def answer(self, node: str, number: str, sequence: int, piece: str, lease: int) -> bool:
        if number in self.gone:
            return False
        self.answers[number] = self.answers.get(number, "") + parse_piece(piece)[0]
        return True

    async def machine(self, question: Question) -> dict[str, Any]:
        return {"cpus": 2}

    def run_of(self, task_id: str) -> int | None:
        return 1

    async def stack(self, run: int, *, native: bool = False) -> LiveStack:
        self.looked += 1
        await self.look.wait()
        return LiveStack("text", "task", 7, attempt=3)

    def ask(self, *numbers: str) -> None:
        self.questions.take([Asked("n1", number) for number in numbers])

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def answered(self, number: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while number not in self.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.read(number)

    def read(self, number: str) -> dict[str, Any]:
        return parse_answer(self.answers[number])


async def test_what_the_node_writes_for_its_tasks_goes_first() -> None:
    world = World()
    world.look.set()
    world.is_busy = True
    world.ask("11")
    await world.settle()
    assert world.answers == {}
    world.is_busy = False
    async with asyncio.timeout(10):
        while "11" not in world.answers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert world.read("11") == {"stack": "text", "how": "task", "note": "", "pid": 7, "attempt": 3}


async def test_of_one_asker_some_are_answered_at_once_and_of_all_some_more() -> None:
    world = World()
    world.ask(*(f"1{n}" for n in range(OF_ONE + 1)))
    await world.settle()
    assert world.looked == OF_ONE
    assert "ask again" in world.read(f"1{OF_ONE}")["error"]
    world.ask(*(f"{n}0" for n in range(2, 2 + AT_ONCE)))
    await world.settle()
    assert world.looked == AT_ONCE
    world.questions.close()


async def test_a_question_that_is_withdrawn_is_answered_no_more() -> None:
    world = World()
    world.ask("11")
    await world.settle()
    world.questions.take([Asked("n1", "11", is_gone=True), Asked("n2", "11"), Asked("n1", "12", is_gone=True)])
    world.look.set()
    await world.settle()
    assert world.answers == {}
    world.ask("13")
    await world.settle()
    assert world.read("13")["pid"] == 7


async def test_nothing_more_is_written_for_an_asker_that_has_gone(monkeypatch: Any) -> None:
    monkeypatch.setattr(questions, "format_answer", lambda answer: iter(['{"text":"a","more":true}'] * 9))
    world = World()
    world.look.set()
    world.gone.add("11")
    world.ask("11")
    await world.settle()
    assert world.answers == {}


async def test_a_run_that_has_ended_is_said_to_be_gone(monkeypatch: Any) -> None:
    world = World()

    async def ended(run: int, *, native: bool = False) -> LiveStack:
        raise Ended

    monkeypatch.setattr(world, "stack", ended)
    world.ask("11")
    await world.settle()
    assert world.read("11") == {"gone": True}


async def test_while_the_store_is_nearly_full_nothing_is_looked_at_and_whoever_asks_is_told_why(
    monkeypatch: Any,
) -> None:
    now_ns = 10**12
    monkeypatch.setattr("mpfora.supervisor.answer_room.boot_ns", lambda: now_ns)
    world = World()
    world.look.set()
    world.space_now = Space(800, 1000)
    world.ask("11", "21")
    assert "80% of its quota" in (await world.answered("11"))["error"]
    await world.answered("21")
    assert (world.looked, world.spaces) == (0, 1)  # the store is asked once for many
    world.what = MACHINE
    world.ask("31")
    assert await world.answered("31") == {"cpus": 2}  # the doctor's, which helps to make room
    world.what, world.space_now, now_ns = STACK, Space(799, 1000), now_ns + 6 * 10**9
    world.ask("41")
    assert (await world.answered("41"))["pid"] == 7


def test_of_a_quota_that_etcd_does_not_tell_it_is_said_how_to_tell_it() -> None:
    assert "MPFORA_ETCD_QUOTA" in why_full(Space(1_900_000_000, 2 * 2**30, is_told=False))
    assert "MPFORA_ETCD_QUOTA" not in why_full(Space(9, 10))
    assert why_full(None) == why_full(Space(10, 0)) == ""
