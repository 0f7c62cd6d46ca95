"""The zygote's end of the socket: descriptors stay with their frames, a supervisor that dies is heard to its end."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from mpfora.child.zygote.link import Link
from mpfora.ipc import frames
from mpfora.model.run_spec import RunLimits, RunSpec

ORDER = frames.Fork(1, 0, RunSpec("t", "h", "{}", 1, 1, None, RunLimits(5.0)))


@pytest.fixture
def pair() -> tuple[socket.socket, Link]:
    ours, theirs = socket.socketpair()
    return ours, Link(theirs.detach())


def send_fork(supervisor: socket.socket, run: int, cut: int = 0) -> list[os.stat_result]:
    """A Fork frame with three new descriptors, perhaps in two pieces. Returns what these are."""
    frame = frames.format_frame(frames.Fork(run, 0, RunSpec("t", "h", "x" * 100, 1, 1, None, RunLimits(5.0))))
    fds = [os.memfd_create(f"fd{run}") for _ in frames.FORK_FDS]
    socket.send_fds(supervisor, [frame[: cut or len(frame)]], fds)
    if cut:
        supervisor.sendall(frame[cut:])
    stats = [os.fstat(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    return stats


def read_all(link: Link) -> list[frames.Frame]:
    arrived: list[frames.Frame] = []
    while got := link.read():
        arrived += got
    return arrived


def test_descriptors_stay_with_their_frames(pair: tuple[socket.socket, Link]) -> None:
    supervisor, link = pair
    sent = []
    for run in range(5):
        supervisor.sendall(frames.format_frame(frames.Ping(run)))
        sent.append(send_fork(supervisor, run, cut=run * 10))
    arrived: list[frames.Frame] = []
    while len(arrived) < 10:
        arrived += link.read()
    assert [frame.run for frame in arrived if isinstance(frame, frames.Fork)] == list(range(5))
    for stats in sent:
        fds = link.take_fds()
        assert [os.fstat(fd).st_ino for fd in fds] == [stat.st_ino for stat in stats]
        assert not any(map(os.get_inheritable, fds))
        for fd in fds:
            os.close(fd)


def test_a_will_has_one_descriptor(pair: tuple[socket.socket, Link]) -> None:
    supervisor, link = pair
    with open("/dev/null") as null:
        number = os.fstat(null.fileno()).st_ino
        socket.send_fds(supervisor, [frames.format_frame(frames.Will(["/bin/true"]))], [null.fileno()])
    send_fork(supervisor, 1, cut=0)
    assert len(read_all(link)) == 2
    (fd,) = link.take_fds(1)
    assert os.fstat(fd).st_ino == number
    for each in (fd, *link.take_fds()):
        os.close(each)


def test_a_fork_without_descriptors_is_an_error(pair: tuple[socket.socket, Link]) -> None:
    supervisor, link = pair
    supervisor.sendall(frames.format_frame(ORDER))
    assert read_all(link) == [ORDER]
    with pytest.raises(OSError, match="0 descriptors"):
        link.take_fds()


def test_what_a_dead_supervisor_said_is_heard_although_it_hears_nothing_any_more(
    pair: tuple[socket.socket, Link],
) -> None:
    supervisor, link = pair
    will = frames.Will(["/bin/true"])
    supervisor.sendall(frames.format_frame(will))
    supervisor.close()
    link.send(frames.Pong(1))
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
        link.send(frames.Started(number, 1))
        link.flush()
    link.send(frames.Notice("info", "lost"), may_drop=True)
    link.send(frames.Started(number + 1, 1))
    decoder = frames.Decoder()
    got: list[frames.Frame] = []
    while len(got) < number + 1:
        got += decoder.feed(supervisor.recv(1 << 20))
        link.flush()
    assert got == [frames.Started(run, 1) for run in range(1, number + 2)]


def test_a_frame_that_may_wait_goes_with_the_next_that_may_not_or_when_it_is_due(
    pair: tuple[socket.socket, Link],
) -> None:
    supervisor, link = pair
    supervisor.setblocking(False)
    link.send_by(frames.Started(1, 11), at=2000)
    link.send_by(frames.Started(2, 12), at=1000)
    assert link.wake_at() == 1000
    link.flush(999)
    with pytest.raises(BlockingIOError):
        supervisor.recv(1)
    link.flush(1000)
    assert frames.Decoder().feed(supervisor.recv(1 << 16)) == [frames.Started(1, 11), frames.Started(2, 12)]
    assert link.wake_at() is None
    link.send_by(frames.Started(3, 13), at=2000)
    link.send(frames.Pong(1))
    link.flush(1001)
    assert frames.Decoder().feed(supervisor.recv(1 << 16)) == [frames.Started(3, 13), frames.Pong(1)]
    assert link.wake_at() is None


class Refusing:
    """A socket of whose calls the first ones find no room in the kernel."""

    def __init__(self, real: socket.socket, number: int, times: int) -> None:
        self._real, self._number, self.left = real, number, times

    def __getattr__(self, name: str) -> Any:
        if name in ("send", "recvmsg") and self.left:
            self.left -= 1
            raise OSError(self._number, os.strerror(self._number))
        return getattr(self._real, name)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS])
def test_a_kernel_without_room_is_no_end_of_the_supervisor(pair: tuple[socket.socket, Link], number: int) -> None:
    supervisor, link = pair
    link._socket = Refusing(link._socket, number, 2)  # type: ignore[assignment]
    supervisor.sendall(frames.format_frame(frames.Ping(1)))
    assert link.read() == []
    assert not link.is_drained, "what has come is not known"
    assert not link.is_closed
    link.send(frames.Pong(1))
    link.flush()
    assert link.is_behind, "it is waited for"
    link.flush()
    assert [frame.number for frame in link.read() if isinstance(frame, frames.Ping)] == [1]
    assert frames.Decoder().feed(supervisor.recv(1000)) == [frames.Pong(1)]
