"""memory_limit is for the memory that a task's tree has made dirty itself: the same alone and among neighbours."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from zygote_harness import Node, node

from mpfora.child.zygote import memory_watch
from mpfora.child.zygote.memory import (
    Glance,
    OwnMemory,
    Pages,
    add_up,
    most_growth,
    parse_smaps,
    read_glance,
    read_pages,
)
from mpfora.child.zygote.memory_watch import describe
from mpfora.model.outcome import Cause

MIB = 1 << 20
ZYGOTE = Pages(0, 0, 0, program=1)


# -- the sum ----------------------------------------------------------------------------------------------------------


def test_of_one_process_only_private_pages_are_its_own() -> None:
    assert add_up([Pages(10, 600, 0, 1)], 600, ZYGOTE) == OwnMemory(10, 0, 1)


def test_what_forked_workers_share_is_counted_once() -> None:
    leader, worker = Pages(10, 600 + 50, 0, 1), Pages(5, 600 + 50, 0, 1)
    assert add_up([leader, worker, worker], 600, ZYGOTE).anonymous == 10 + 5 + 5 + 50


def test_what_executed_programs_share_has_nothing_of_the_zygotes() -> None:
    server, worker = Pages(1, 40, 0, 2), Pages(1, 40, 0, 2)
    assert add_up([Pages(10, 600, 0, 1), server, worker], 600, ZYGOTE).anonymous == 10 + 1 + 1 + 40


def test_shared_memory_is_counted_by_its_share_without_what_the_zygote_has() -> None:
    zygote = Pages(0, 0, 100, program=1)
    assert add_up([Pages(0, 0, 200, 1), Pages(0, 0, 200, 2)], 0, zygote).shared == 300
    assert add_up([Pages(0, 0, 50, 1)], 0, zygote).shared == 0


def test_of_a_process_that_may_not_be_looked_at_the_zygotes_part_is_left_out() -> None:
    assert add_up([Pages(0, 700, 0, 0)], 600, ZYGOTE).anonymous == 100


def test_the_most_that_a_tree_can_have_grown_by() -> None:
    before = {1: Glance(100, 10), 2: Glance(50, 0)}
    assert most_growth(before, before, 4) == 0
    assert most_growth(before, {1: Glance(90, 12), 2: Glance(60, 0)}, 4) == 8 + 10
    assert most_growth(before, {**before, 3: Glance(30, 5)}, 4) == 30 + 20
    assert most_growth(before, {1: Glance(100, 10)}, 4) is None


SMAPS = b"""\
55d0c9a00000-55d0c9a10000 rw-p 00002000 08:01 42                         /usr/lib/x.so
Size:                 64 kB
Rss:                  64 kB
Pss:                  40 kB
Shared_Clean:         16 kB
Shared_Dirty:         16 kB
Private_Clean:        24 kB
Private_Dirty:         8 kB
Referenced:           64 kB
Anonymous:            24 kB
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                1024 kB
Pss:                 600 kB
Shared_Clean:          0 kB
Shared_Dirty:        512 kB
Private_Clean:        12 kB
Private_Dirty:       500 kB
Referenced:         1024 kB
Anonymous:          1024 kB
7f1000000000-7f1000100000 rw-s 00000000 00:01 7                          /dev/shm/psm_1 (deleted)
Size:               1024 kB
Rss:                1024 kB
Pss:                 512 kB
Shared_Clean:          0 kB
Shared_Dirty:       1024 kB
Private_Clean:         0 kB
Private_Dirty:         0 kB
Referenced:         1024 kB
Anonymous:             0 kB
7f2000000000-7f2000100000 rw-s 00000000 08:01 8                          /data/a file
Size:               1024 kB
Rss:                1024 kB
Pss:                1024 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:      1024 kB
Referenced:         1024 kB
Anonymous:             0 kB
"""


def test_what_counts_in_smaps() -> None:
    assert parse_smaps(SMAPS, 9) == Pages((8 + 512) * 1024, (16 + 512) * 1024, 512 * 1024, 9)


def test_this_process_is_read() -> None:
    held = os.urandom(30 * MIB)
    pages, glance = read_pages(os.getpid()), read_glance(os.getpid())
    assert pages is not None
    assert glance is not None
    assert pages.private > 30 * MIB <= glance.size
    assert pages.program > 0
    assert len(held) == 30 * MIB


def test_a_process_that_is_gone() -> None:
    assert read_pages(2**22 + 1) is None
    assert read_glance(2**22 + 1) is None


def test_the_text_tells_what_counts_and_the_most() -> None:
    text = describe(OwnMemory(200 * MIB, 10 * MIB, 3), 250 * MIB)
    assert (
        text == "it had 210.0 MiB of its own (200.0 MiB anonymous in 3 processes, 10.0 MiB shared), at most 250.0 MiB"
    )


# -- real trees -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["here", "elsewhere"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """120 MiB are loaded at import; and looks are taken by the zygote, or by another process."""
    monkeypatch.setenv("PLAIN_LOADED_MIB", "120")
    monkeypatch.setenv("PLAIN_INLINE", "0" if request.param == "elsewhere" else str(memory_watch._INLINE))
    yield
    sys.modules.pop("plain_zoo", None)


async def survives(n: Node, run: int) -> None:
    """It is left alone for several looks at it."""
    await n.line(run, "held")
    await asyncio.sleep(1.5)
    assert not n.ends(run), await n.outcome(run)


FITS = {
    "little beside what is loaded": {"mib": 10},
    "workers that read what is loaded": {"mib": 30, "pool": 3},
    "shared memory in many processes": {"shm": 30, "pool": 3},
}


async def test_what_fits_lives_alone_among_neighbours_and_when_they_end(loaded: None) -> None:
    async with node("hold", module="plain_zoo") as n:
        first = n.fork("hold", {"mib": 10}, memory_limit=70 * MIB)
        await survives(n, first)
        others = [n.fork("hold", props, memory_limit=70 * MIB) for props in FITS.values()]
        for other in others:
            await survives(n, other)
        for other in others:
            assert (await n.killed(other, dump=False)).cause is Cause.STOP_TIMEOUT
        await survives(n, first)


EXCEEDS = {
    "allocated": {"mib": 90},
    "allocated later": {"mib": 10, "then": 80},
    "what was loaded is written to": {"touch": 90},
    "shared among forked workers": {"mib": 90, "pool": 3},
    "shared memory": {"shm": 90},
    "both": {"mib": 40, "shm": 50},
}


@pytest.mark.parametrize("neighbours", [0, 2])
async def test_what_does_not_fit_is_killed_alone_and_among_neighbours(loaded: None, neighbours: int) -> None:
    async with node("hold", module="plain_zoo") as n:
        for _ in range(neighbours):
            await n.fork_to("held", "hold", {})
        runs = {name: n.fork("hold", props, memory_limit=70 * MIB) for name, props in EXCEEDS.items()}
        for name, run in runs.items():
            outcome = await n.outcome(run)
            assert outcome.cause is Cause.MEMORY_LIMIT, name
            assert "of its own (" in outcome.error


@pytest.mark.parametrize("write", [False, True])
async def test_pages_of_a_file_do_not_count(loaded: None, tmp_path: Path, write: bool) -> None:
    (tmp_path / "data").write_bytes(os.urandom(MIB) * 150)
    async with node("hold", module="plain_zoo") as n:
        props = {"mib": 10, "mapped": str(tmp_path / "data"), "write_mapped": write}
        await survives(n, n.fork("hold", props, memory_limit=70 * MIB))


@pytest.mark.parametrize(("shm", "fits"), [(20, True), (160, False)])
async def test_workers_that_were_executed_share_memory_once(loaded: None, shm: int, fits: bool) -> None:
    async with node("spawn_pool", module="plain_zoo") as n:
        run = n.fork("spawn_pool", {"shm": shm, "pool": 3}, memory_limit=120 * MIB)
        if fits:
            await survives(n, run)
        else:
            assert (await n.outcome(run)).cause is Cause.MEMORY_LIMIT
