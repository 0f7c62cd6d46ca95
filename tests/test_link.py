"""The zygote's end of the socket: descriptors stay with their frames, a supervisor that dies is heard to its end."""

from __future__ import annotations

import os
import socket

import pytest

from mpfora import wire
from mpfora.child.link import Link

ORDER = wire.Fork(1, "t", "h", "{}", 1, 1, None, 0, 5.0)


@pytest.fixture
def pair() -> tuple[socket.socket, Link]:
    ours, theirs = socket.socketpair()
    return ours, Link(theirs.detach())


def send_fork(supervisor: socket.socket, run: int, cut: int = 0) -> list[os.stat_result]:
    """A Fork frame with three new descriptors, perhaps in two pieces. Returns what these are."""
    frame = wire.format_frame(wire.Fork(run, "t", "h", "x" * 100, 1, 1, None, 0, 5.0))
    fds = [os.memfd_create(f"fd{run}") for _ in wire.FORK_FDS]
    socket.send_fds(supervisor, [frame[: cut or len(frame)]], fds)
    if cut:
        supervisor.sendall(frame[cut:])
    stats = [os.fstat(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    return stats


def read_all(link: Link) -> list[wire.Frame]:
    frames: list[wire.Frame] = []
    while got := link.read():
        frames += got
    return frames


def test_descriptors_stay_with_their_frames(pair: tuple[socket.socket, Link]) -> None:
    supervisor, link = pair
    sent = []
    for run in range(5):
        supervisor.sendall(wire.format_frame(wire.Ping(run)))
        sent.append(send_fork(supervisor, run, cut=run * 10))
    frames: list[wire.Frame] = []
    while len(frames) < 10:
        frames += link.read()
    assert [frame.run for frame in frames if isinstance(frame, wire.Fork)] == list(range(5))
    for stats in sent:
        fds = link.take_fds()
        assert [os.fstat(fd).st_ino for fd in fds] == [stat.st_ino for stat in stats]
        assert not any(map(os.get_inheritable, fds))
        for fd in fds:
            os.close(fd)


def test_a_fork_without_descriptors_is_an_error(pair: tuple[socket.socket, Link]) -> None:
    supervisor, link = pair
    supervisor.sendall(wire.format_frame(ORDER))
    assert read_all(link) == [ORDER]
    with pytest.raises(OSError, match="0 descriptors"):
        link.take_fds()


def test_what_a_dead_supervisor_said_is_heard_although_it_hears_nothing_any_more(
    pair: tuple[socket.socket, Link],
) -> None:
    supervisor, link = pair
    will = wire.Will(["/bin/true"], "")
    supervisor.sendall(wire.format_frame(will))
    supervisor.close()
    link.send(wire.Pong(1))
    link.flush()
    assert not link.is_closed
    assert read_all(link) == [will]
    assert link.is_closed
    assert not link.has_unsent


def test_one_that_does_not_read_blocks_nothing_and_loses_only_what_may_be_lost(
    pair: tuple[socket.socket, Link],
) -> None:
    supervisor, link = pair
    number = 0
    while not link.has_unsent:
        number += 1
        link.send(wire.Started(number, 1))
        link.flush()
    link.send(wire.Notice("info", "lost"), may_drop=True)
    link.send(wire.Started(number + 1, 1))
    decoder = wire.Decoder()
    got: list[wire.Frame] = []
    while len(got) < number + 1:
        got += decoder.feed(supervisor.recv(1 << 20))
        link.flush()
    assert got == [wire.Started(run, 1) for run in range(1, number + 2)]


def test_a_frame_that_may_wait_goes_with_the_next_that_may_not_or_when_it_is_due(
    pair: tuple[socket.socket, Link],
) -> None:
    supervisor, link = pair
    supervisor.setblocking(False)
    link.send_by(wire.Started(1, 11), at=2000)
    link.send_by(wire.Started(2, 12), at=1000)
    assert link.wake_at() == 1000
    link.flush(999)
    with pytest.raises(BlockingIOError):
        supervisor.recv(1)
    link.flush(1000)
    assert wire.Decoder().feed(supervisor.recv(1 << 16)) == [wire.Started(1, 11), wire.Started(2, 12)]
    assert link.wake_at() is None
    link.send_by(wire.Started(3, 13), at=2000)
    link.send(wire.Pong(1))
    link.flush(1001)
    assert wire.Decoder().feed(supervisor.recv(1 << 16)) == [wire.Started(3, 13), wire.Pong(1)]
    assert link.wake_at() is None
