"""Schedules are carried out by whichever node comes first, each slot once, over a store that they share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mpfora.cluster.changes import Changes, MemberPut
from mpfora.model.schedule import Overlap, Progress, Schedule, slot_id
from mpfora.model.task import Member
from mpfora.store.kv import Put, Txn
from mpfora.store.schedule_records import format_schedule
from mpfora.supervisor import schedules
from mpfora.supervisor.coordinator.interface import Unreachable
from mpfora.supervisor.coordinator.memory import MemoryCoordinator, MemoryStore
from mpfora.supervisor.schedules import Schedules

NOW = 1_800_000_000


class World:
    """Nodes that share a store and a clock, without a core: their shells see the watch, and nothing claims."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryStore()
        self.now = float(NOW)
        self.coordinators: dict[str, MemoryCoordinator] = {}
        self.shells: dict[str, Schedules] = {}
        #: node -> how many seconds its clock is ahead of the clock of the node that asks
        self.ahead: dict[str, float] = {}
        monkeypatch.setattr(schedules.time, "time", lambda: self.now)
        monkeypatch.setattr(MemoryCoordinator, "clocks", self.clocks)

    async def clocks(self, coordinator: MemoryCoordinator | None = None) -> dict[str, float]:
        return self.ahead

    def join(self, *names: str) -> None:
        for name in names:
            coordinator = self.coordinators[name] = MemoryCoordinator(self.store)
            self.shells[name] = Schedules(name, coordinator)
        self.stir()

    def stir(self) -> None:
        """The watch of each node shows all of them, and that something has changed."""
        members = tuple(MemberPut(Member(name, "host", 1)) for name in self.shells)
        for shell in self.shells.values():
            shell.take(Changes(1, members, reset=True))

    async def put(self, schedule: Schedule) -> None:
        layout = self.any._layout
        await self.any._store.txn(Txn((), (Put(layout.schedule(schedule.name), format_schedule(schedule)),)))
        self.stir()

    @property
    def any(self) -> MemoryCoordinator:
        return next(iter(self.coordinators.values()))

    async def progress(self, name: str) -> Progress:
        return next(kept.progress for kept in await self.any.schedules() if kept.name == name)

    async def turn_all(self) -> None:
        """Every node looks, until none has anything to do."""
        for _ in range(20):
            pauses = [await shell._turn() for shell in self.shells.values()]
            if all(pause is None or pause > 0.1 for pause in pauses):
                return
        raise AssertionError("it never comes to rest")

    def tasks(self) -> list[str]:
        return sorted(self.store.tasks())

    def end(self, task_id: str) -> None:
        self.store.delete_task(task_id)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def every(seconds: int, **more: Any) -> Schedule:
    return Schedule("s", NOW, every_s=seconds, props={"a": 1}, **more)


async def test_each_slot_has_one_task_however_many_nodes_there_are(world: World) -> None:
    world.join("n1", "n2", "n3")
    await world.put(every(10, overlap=Overlap.QUEUE))
    made = []
    for n in range(1, 8):
        world.now = NOW + 10 * n + 8
        await world.turn_all()
        assert world.tasks() == [slot_id("s", NOW + 10 * n)]
        made += world.tasks()
        world.end(world.tasks()[0])
    assert len(set(made)) == 7


async def test_the_first_in_order_makes_it_on_time_and_the_next_a_little_later(world: World) -> None:
    world.join("n1", "n2", "n3")
    await world.put(every(10))
    await world.turn_all()
    world.now = NOW + 10.0
    pauses = {name: await shell._turn() for name, shell in world.shells.items()}
    first = [name for name, pause in pauses.items() if pause == 0.0]
    assert len(first) == 1
    assert sorted(pause or 0.0 for pause in pauses.values()) == [0.0, 2.0, 4.0]


async def test_where_the_first_in_order_is_dead_another_makes_it(world: World) -> None:
    world.join("n1", "n2", "n3")
    await world.put(every(10))
    for dead in ("n1", "n2"):
        del world.shells[dead]
    world.now = NOW + 10 + 2 * schedules.NEXT_S
    await world.turn_all()
    assert world.tasks() == [slot_id("s", NOW + 10)]


async def test_nothing_is_asked_while_nothing_is_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join("n1")
    shell = world.shells["n1"]
    assert await shell._turn() is None
    await world.put(every(1000))
    assert await shell._turn() == schedules._LONGEST_S

    def fail(*args: Any) -> Any:
        raise AssertionError("the store is asked")

    monkeypatch.setattr(MemoryCoordinator, "schedules", fail)
    monkeypatch.setattr(MemoryCoordinator, "is_there", fail)
    world.now += 990
    assert await shell._turn() == 10


async def test_a_slot_whose_task_is_there_already_is_dealt_with(world: World) -> None:
    """A schedule that was deleted and made anew comes to slots that it had before."""
    world.join("n1")
    world.store.submit(slot_id("s", NOW + 10))
    await world.put(every(10))
    world.now = NOW + 10
    await world.turn_all()
    assert (await world.progress("s")).slot == NOW + 10
    assert world.tasks() == [slot_id("s", NOW + 10)]


async def test_replace_kills_the_task_before(world: World) -> None:
    world.join("n1", "n2")
    await world.put(every(10, overlap=Overlap.REPLACE))
    world.now = NOW + 18
    await world.turn_all()
    world.now = NOW + 28
    await world.turn_all()
    first = slot_id("s", NOW + 10)
    assert world.tasks() == [first]
    assert world.store.has_command(first)
    world.end(first)
    await world.turn_all()
    assert world.tasks() == [slot_id("s", NOW + 20)]


async def test_what_is_wrong_with_one_schedule_is_told_once_and_is_no_trouble_of_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.join("n1")
    layout = world.any._layout
    bad = ['{"every":0}', "7", '{"every":1e400}', '{"cron":"* * * * *","start":99999999999999999999}', "\xff", "{}",
           '{"every":10,"props":[]}', '{"every":10,"overlap":"both"}', '{"cron":"0 0 * * *","tz":"Mars/Phobos"}',
           '{"every":9223372036854775807}', '{"every":1,"jitter":"NaN"}', '{"every":1,"start":-5}']  # fmt: skip
    for number, value in enumerate(bad):
        await world.any._store.txn(Txn((), (Put(layout.schedule(f"bad{number}"), value),)))
    await world.any._store.txn(Txn((), (Put(layout.schedule_progress("good"), '{"slot":5}'),)))
    await world.any._store.txn(
        Txn((), (Put(layout.schedule("good"), format_schedule(replace(every(10), name="good"))),))
    )
    world.now = NOW + 10
    for _ in range(3):
        world.stir()
        await world.turn_all()
    assert world.tasks() == [slot_id("good", NOW + 10)]
    told = [record.getMessage() for record in caplog.records if "is not carried out" in record.getMessage()]
    assert len(told) == len(set(told)) >= len(bad) - 1, told
    assert not [record for record in caplog.records if record.exc_info]


# -- clocks that are wrong --------------------------------------------------------------------------------------------

YEAR_S = 365 * 86_400


async def test_a_node_whose_clock_is_years_ahead_does_not_take_the_time_between_for_missed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.join("n1", "n2")
    await world.put(every(10))
    world.now += 10 + 3 * YEAR_S
    world.ahead = {"n1": 0.0, "n2": -3.0 * YEAR_S}
    for _ in range(3):
        assert await world.shells["n1"]._turn() == schedules._CLOCK_S
    assert (world.tasks(), await world.progress("s")) == ([], Progress())
    told = [record.getMessage() for record in caplog.records if "Set the clock that is wrong" in record.getMessage()]
    assert len(told) == 1
    assert "n2 is 1095d00h behind" in told[0]
    world.now, world.ahead = NOW + 10.0, {}
    await world.turn_all()
    assert world.tasks() == [slot_id("s", NOW + 10)], "and the others go on as if nothing had been"


async def test_what_was_really_missed_is_made_where_the_clocks_agree(world: World) -> None:
    world.join("n1", "n2")
    await world.put(every(10))
    world.now += 10 + 3 * YEAR_S
    world.ahead = {"n1": 0.0, "n2": 0.4}
    await world.turn_all()
    assert world.tasks() == [slot_id("s", NOW + 10 + 3 * YEAR_S)]


async def test_a_schedule_that_has_come_into_the_future_says_so_and_what_to_do(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A lone node's clock was wrong, or that of the client that has made the schedule."""
    world.join("n1")
    await world.put(every(10))
    world.now = NOW + 10 + YEAR_S
    await world.turn_all()
    world.now = NOW + 30
    for _ in range(3):
        world.stir()
        await world.turn_all()
    made = slot_id("s", NOW + 10 + YEAR_S)
    assert world.tasks() == [made]
    told = [record.getMessage() for record in caplog.records if "lies in the future" in record.getMessage()]
    assert len(told) == 1
    assert "delete the schedule and make it anew" in told[0]


async def test_an_outage_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join("n1")
    await world.put(every(10))
    world.now = NOW + 10
    shell = world.shells["n1"]
    read = MemoryCoordinator.schedules

    async def fails(self: MemoryCoordinator) -> Any:
        raise Unreachable("etcd is away")

    monkeypatch.setattr(MemoryCoordinator, "schedules", fails)
    assert await shell._turn_safely() == schedules._AGAIN_S
    monkeypatch.setattr(MemoryCoordinator, "schedules", read)
    assert await shell._turn_safely() == 0.0
    assert world.tasks() == [slot_id("s", NOW + 10)]
