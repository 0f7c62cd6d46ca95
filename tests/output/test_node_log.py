"""The node's own log: whoever takes its lines may hang, or take none for a while, and the node goes on."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node import until

from mpfora.supervisor.node_log import NodeLog

log = logging.getLogger("mpfora.node")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int | None], None]]:
    """full(fd, bytes): so many are still taken; None: all of them again."""
    left: dict[int, int] = {}
    write = os.write

    def bounded(fd: int, data: bytes) -> int:
        if fd not in left:
            return write(fd, data)
        if not left[fd]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(fd, data[: left[fd]])
        left[fd] -= count
        return count

    def fill(fd: int, size: int | None) -> None:
        left.pop(fd, None)
        if size is not None:
            left[fd] = size

    monkeypatch.setattr(os, "write", bounded)
    yield fill
    left.clear()


def test_lines_that_a_full_disk_does_not_take_are_counted_and_told(
    tmp_path: Path, full: Callable[[int, int | None], None]
) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    full(fd, 40)
    logs = NodeLog("n1", "text", "info", fd)
    for number in range(5):
        log.info("line %d", number)
    until(lambda: logs._writer._lost == 5, "nothing of it is written")
    full(fd, None)
    log.info("the disk has room")
    logs.close()
    os.close(fd)
    torn, told, last = (tmp_path / "log").read_text().splitlines()
    assert len(torn) == 40
    assert told.endswith("n1 5 lines of this log were not written: No space left on device")
    assert last.endswith("the disk has room")


def test_what_grpc_says_of_each_call_that_can_open_no_socket_is_left_out(tmp_path: Path) -> None:
    """The error of the call has the reason, and is told once and then ever less."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    logs = NodeLog("n1", "text", "info", fd)
    grpc = logging.getLogger("grpc._cython.cygrpc")
    for _ in range(3):
        grpc.error("Invalid encoding on %s", b"Too many open files\n\x00>!\xff")
    grpc.error("something else")
    logs.close()
    os.close(fd)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("something else")
