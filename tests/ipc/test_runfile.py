"""The file of a run: its newest checkpoint, whole whatever happens, and its stacks, whatever else is in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.ipc import run_file


@pytest.fixture
def fd() -> Iterator[int]:
    fd = run_file.create()
    yield fd
    os.close(fd)


def test_the_newest_is_found_and_the_supervisor_is_told_once_until_it_has_looked(fd: int) -> None:
    assert run_file.newest(fd, 0) is None
    assert [run_file.publish(fd, b"%d" % n) for n in range(5)] == [True, False, False, False, False]
    assert run_file.newest(fd, 0) == (5, b"4")
    assert run_file.newest(fd, 5) is None
    assert [run_file.publish(fd, b"%d" % n) for n in range(2)] == [True, False]
    assert run_file.newest(fd, 5) == (7, b"1")


def test_one_of_any_length_up_to_the_longest(fd: int) -> None:
    for length in (0, 1, run_file.CHECKPOINT_BYTES - 1, run_file.CHECKPOINT_BYTES, 3):
        run_file.publish(fd, b"x" * length)
        found = run_file.newest(fd, 0)
        assert found is not None
        assert found[1] == b"x" * length
    with pytest.raises(ValueError, match="the limit is 524288"):
        run_file.publish(fd, bytes(run_file.CHECKPOINT_BYTES + 1))


@given(st.lists(st.binary(max_size=50) | st.none(), max_size=40))
def test_whoever_is_told_and_looks_misses_nothing_that_lasts(steps: list[bytes | None]) -> None:
    """None: the supervisor looks, if it was told. At the end it looks once more where it was told."""
    fd = run_file.create()
    is_told, seen, found, published = False, 0, b"", b""
    for step in [*steps, None]:
        if step is not None:
            is_told |= run_file.publish(fd, step)
            published = step
        elif is_told:
            is_told, newest = False, run_file.newest(fd, seen)
            if newest is not None:
                seen, found = newest
    assert found == published
    os.close(fd)


def test_a_reader_never_gets_a_half_of_one(fd: int) -> None:
    """A writer in a thread, as fast as it can; each checkpoint is of one character."""
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            run_file.publish(fd, b"%c" % (97 + n % 26) * (1000 + n % 60_000))

    writer = threading.Thread(target=write)
    writer.start()
    seen, reads = 0, 0
    try:
        while reads < 200:
            if (found := run_file.newest(fd, seen)) is not None:
                seen, data = found
                assert len(set(data)) == 1
                reads += 1
    finally:
        stop.set()
        writer.join()


def test_a_dump_longer_than_its_room_leaves_checkpoints_alone(fd: int) -> None:
    run_file.publish(fd, b"kept")
    for _ in range(run_file.STACKS_BYTES // 1024):
        os.write(fd, b"s" * 1024)
    with pytest.raises(OSError, match="not permitted"):
        os.write(fd, b"s")
    assert run_file.stacks_size(fd) == run_file.STACKS_BYTES
    assert run_file.stacks(fd) == b"s" * run_file.STACKS_BYTES
    assert run_file.newest(fd, 0) == (1, b"kept")
    run_file.wipe_stacks(fd)
    os.write(fd, b"again\n")
    assert run_file.stacks(fd) == b"again"


def test_what_a_hostile_process_writes_into_it_is_bounded(fd: int) -> None:
    os.pwrite(fd, b"\xff" * 4096, 0)
    found = run_file.newest(fd, 0)
    assert found is not None
    assert len(found[1]) <= run_file.CHECKPOINT_BYTES
