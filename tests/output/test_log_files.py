"""The files of what tasks print: what is kept, what goes, and what is read of it."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from mpfora.client.logs.log_lines import LineCutter
from mpfora.run_logs.places import RunName, default_folder, folder_name, parts_of
from mpfora.run_logs.reader import read_piece, since_start, tail_start
from mpfora.supervisor.output import log_store as log_store_module
from mpfora.supervisor.output.log_store import LogBounds, LogStore
from mpfora.supervisor.output.run_log import RunLog

RUN = RunName("t1", 1, 7)


def read_all(folder: Path, run: RunName = RUN, most: int = 10_000) -> list[tuple[int, bytes]]:
    """Pieces that follow one another as one."""
    pieces: list[tuple[int, bytes]] = []
    at = 0
    while (piece := read_piece(folder, run, at, most)) is not None and piece.data:
        if pieces and piece.start == at:
            pieces[-1] = pieces[-1][0], pieces[-1][1] + piece.data
        else:
            pieces.append((piece.start, piece.data))
        at = piece.start + len(piece.data)
    return pieces


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %07d\n" % number for number in range(first, last))


def test_what_fits_is_kept_as_it_was_printed(tmp_path: Path) -> None:
    log = RunLog(tmp_path, RUN, 1 << 20)
    data = random.Random(1).randbytes(5000) + b"\r\n\0half"
    for at in range(0, len(data), 700):
        log.write(data[at : at + 700], at)
    assert read_all(tmp_path) == [(0, data)]


@pytest.mark.parametrize("chunk", [13, 4096, 100_000])
def test_of_what_does_not_fit_the_beginning_and_the_end_are_kept(tmp_path: Path, chunk: int) -> None:
    most = 320 * 1024
    log = RunLog(tmp_path, RUN, most)
    data = numbered(0, 100_000 if chunk > 1000 else 60_000)
    for at in range(0, len(data), chunk):
        log.write(data[at : at + chunk], 1000 + at)
    (first, head), (second, tail) = read_all(tmp_path)
    assert first == 0
    assert data.startswith(head)
    assert len(head) >= most // 32
    assert second + len(tail) == len(data)
    assert data.endswith(tail)
    assert len(tail) >= most // 2
    on_disk = sum(path.stat().st_size for path in (tmp_path / "t1").iterdir())
    assert on_disk <= most * 1.1
    assert on_disk == log.size


def test_lines_say_what_is_missing_between(tmp_path: Path) -> None:
    log = RunLog(tmp_path, RUN, 64 * 1024)
    log.write(numbered(0, 20_000), 5)
    cutter = LineCutter("t1", "n1", 1, 7)
    lines = [line for start, data in read_all(tmp_path) for line in cutter.feed(start, data, [(0, 5)])]
    notes = [line.text for line in lines if line.note]
    assert len(notes) == 1
    assert "missing" in notes[0]
    assert lines[0].text == "line 0000000"
    assert lines[-1].text == "line 0019999"


def test_a_failure_of_the_disk_costs_what_it_did_not_take_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path, RUN, 1 << 20)
    log.write(b"before\n", 0)
    is_full = True
    write = os.write

    def planted(fd: int, data: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", planted)
    with pytest.raises(OSError, match="space"):
        log.write(b"lost 1\n", 1000)
    log.write(b"lost 2\n", 1500)  # it is not tried again at once
    is_full = False
    log.write(b"after\n", 2500)
    assert read_all(tmp_path) == [(0, b"before\n"), (21, b"after\n")]


def test_a_disk_that_takes_a_part_is_tried_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:16]))
    log = RunLog(tmp_path, RUN, 1 << 20)
    log.write(b"x" * 100, 0)
    assert read_all(tmp_path) == [(0, b"x" * 100)]


def test_the_last_lines_are_found_over_the_borders_of_files(tmp_path: Path) -> None:
    log = RunLog(tmp_path, RUN, 64 * 1024)
    data = numbered(0, 6000)
    log.write(data, 0)
    for lines in (0, 1, 5, 500, 2000):
        at = tail_start(tmp_path, RUN, lines)
        assert data[at:] == numbered(6000 - lines, 6000)
    log.write(b"half", 1)
    assert tail_start(tmp_path, RUN, 1) == len(data)
    assert tail_start(tmp_path, RUN, 2) == len(data) - 13
    assert tail_start(tmp_path, RunName("none", 1, 1), 5) == 0


def test_what_was_printed_since_then_is_found_by_the_times(tmp_path: Path) -> None:
    log = RunLog(tmp_path, RUN, 1 << 20)
    for number in range(10):
        log.write(numbered(number, number + 1), number * 1000)
    assert since_start(tmp_path, RUN, 4000) == 4 * 13
    assert since_start(tmp_path, RUN, 99_000) == 130
    piece = read_piece(tmp_path, RUN, 4 * 13, 100)
    assert piece is not None
    assert piece.times[0] == (52, 4000)


def keep(store: LogStore, task_id: str, data: bytes) -> None:
    keeper = store.open(RunName(task_id, 1, 1))
    keeper.keep(data)
    keeper.end()


def drained(store: LogStore) -> None:
    """Wait until everything that was given to it is written."""
    done = threading.Event()
    store.open(RunName("none", 1, 1), done.set).end()
    assert done.wait(30)


def test_the_oldest_runs_that_have_ended_go_first_and_a_running_one_stays(tmp_path: Path) -> None:
    store = LogStore(tmp_path, LogBounds(per_run=64 * 1024, total=100_000))
    store.start()
    running = store.open(RunName("runs", 1, 1))
    running.keep(b"r" * 30_000)
    for number in range(5):
        keep(store, f"t{number}", b"x" * 30_000)
    drained(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "t3", "t4"]
    store.close()


def test_what_former_lives_have_left_counts(tmp_path: Path) -> None:
    first = LogStore(tmp_path, LogBounds())
    first.start()
    for number in range(3):
        keep(first, f"t{number}", b"x" * 30_000)
    first.close()
    for number in range(3):
        for path in (tmp_path / f"t{number}").iterdir():
            os.utime(path, (1000 + number, 1000 + number))
    (tmp_path / "t0" / "of somebody else").write_text("stays")
    second = LogStore(tmp_path, LogBounds(total=70_000, kept_s=None))
    second.start()
    drained(second)
    assert not list((tmp_path / "t0").glob("*.log"))
    assert (tmp_path / "t0" / "of somebody else").exists()
    assert len(list(tmp_path.rglob("*.log"))) == 2
    second.close()
    third = LogStore(tmp_path, LogBounds(kept_s=60))
    third.start()
    drained(third)
    assert len(list(tmp_path.rglob("*.log"))) == 2, "before this node's clock is known to agree with others"
    third.expire()
    drained(third)
    assert not list(tmp_path.rglob("*.log"))
    third.close()


def test_runs_that_print_more_than_all_may_take_lose_their_middles(tmp_path: Path) -> None:
    store = LogStore(tmp_path, LogBounds(per_run=320 * 1024, total=400_000))
    store.start()
    keepers = [store.open(RunName(f"t{number}", 1, 1)) for number in range(3)]
    for at in range(0, 300_000, 10_000):
        for keeper in keepers:
            keeper.keep(numbered(at, at + 1000)[:10_000])
    drained(store)
    for number in range(3):
        parts = parts_of(tmp_path, RunName(f"t{number}", 1, 1))
        assert parts[0].start == 0
        assert parts[-1].end == 300_000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < 450_000
    store.close()


def test_who_prints_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    write = RunLog.write

    def planted(self: RunLog, data: bytes, at_ms: int) -> None:
        hangs.wait()
        write(self, data, at_ms)

    monkeypatch.setattr(RunLog, "write", planted)
    monkeypatch.setattr(log_store_module, "_WAITING", 100)
    store = LogStore(tmp_path, LogBounds())
    store.start()
    keeper = store.open(RUN)
    for _ in range(10):
        keeper.keep(b"x" * 40)  # the third finds no place
    hangs.set()
    drained(store)
    keeper.keep(b"after")
    keeper.end()
    drained(store)
    pieces = read_all(tmp_path)
    assert pieces[-1] == (400, b"after")
    assert pieces[0][1] in (b"x" * 80, b"x" * 120)
    store.close()


def test_names_of_folders_lead_nowhere_else() -> None:
    assert folder_name("..") == "%2E%2E"
    assert folder_name(".") == "%2E"
    assert "/" not in folder_name("a/../b")
    assert folder_name("a@b:c") == "a@b:c"


def test_the_folder_is_the_services_or_the_users() -> None:
    assert default_folder({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y", "HOME": "/h"}) == Path("/var/lib/x/log")
    assert default_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/mpfora/log")
    assert default_folder({"HOME": "/h"}) == Path("/h/.local/state/mpfora/log")
    with pytest.raises(ValueError, match="HOME"):
        default_folder({"HOME": "relative"})


def test_what_is_kept_too_long_goes_when_the_node_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LogStore(tmp_path, LogBounds(kept_s=3600))
    store.start()
    keep(store, "t1", b"old")
    drained(store)
    now = log_store_module.time.time()
    monkeypatch.setattr(log_store_module.time, "time", lambda: now + 7200)
    store.expire()
    drained(store)
    assert not list(tmp_path.rglob("*.log"))
    store.close()


def test_a_run_of_the_same_name_in_a_store_that_was_wiped_does_not_get_the_other_one_s_lines(tmp_path: Path) -> None:
    run = RunName("t1", 1, 7)
    former = LogStore(tmp_path, LogBounds(per_run=64 * 1024))
    former.start()
    keeper = former.open(run)
    for _ in range(40):
        keeper.keep(b"old\n" * 1000)
    keeper.end()
    former.close(20)
    assert len(parts_of(tmp_path, run)) > 2
    store = LogStore(tmp_path, LogBounds(total=100_000))
    store.start()
    keeper = store.open(run)
    keeper.keep(b"new\n")
    drained(store)
    assert [part[:2] for part in parts_of(tmp_path, run)] == [(0, 4)]
    for number in range(30):  # the oldest go, and it is none of them
        keep(store, f"other{number}", b"x" * 10_000)
    drained(store)
    piece = read_piece(tmp_path, run, 0, 1000)
    assert piece is not None
    assert piece.data == b"new\n"
    keeper.end()
    store.close(20)
