"""The last will of a node with several zygotes: it gives all claims back, so it waits for the processes of all."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

from mpfora.child.zygote import last_will
from mpfora.child.zygote.last_will import Siblings
from mpfora.child.zygote.link import Link
from mpfora.ipc import frames


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Link]]:
    """The supervisor's, and the zygote's."""
    ours, theirs = socket.socketpair()
    link = Link(theirs.detach())
    yield ours, link
    ours.close()
    os.close(link.fileno())


def tell(ends: tuple[socket.socket, Link], siblings: Siblings, guard: int | None) -> None:
    """There is another zygote with this guard."""
    ours, link = ends
    frame = frames.Sibling(is_known=guard is not None)
    fds = [] if guard is None else [os.pidfd_open(guard)]
    socket.send_fds(ours, [frames.format_frame(frame)], fds) if fds else ours.send(frames.format_frame(frame))
    for fd in fds:
        os.close(fd)
    (arrived,) = link.read()
    assert isinstance(arrived, frames.Sibling)
    siblings.take(arrived)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def siblings(ends: tuple[socket.socket, Link], said: list[str]) -> Siblings:
    return Siblings(ends[1], lambda level, text: said.append(text))


def test_a_will_waits_for_the_other_zygotes(ends: tuple[socket.socket, Link], siblings: Siblings) -> None:
    with subprocess.Popen(["sleep", "1"]) as one, subprocess.Popen(["sleep", "0.2"]) as other:
        tell(ends, siblings, one.pid)
        tell(ends, siblings, other.pid)
        assert len(siblings.fds) == 2
        assert siblings.are_over()
        assert one.poll() == 0, "it was waited for"
        assert other.poll() == 0
    assert siblings.fds == [], "nothing is left open"


def test_it_is_not_executed_beside_one_that_does_not_end(
    ends: tuple[socket.socket, Link], siblings: Siblings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_will, "SIBLINGS_S", 0.2)
    with subprocess.Popen(["sleep", "60"]) as one:
        tell(ends, siblings, one.pid)
        assert not siblings.are_over()
        one.kill()
        one.wait()
        assert siblings.are_over()


def test_nor_beside_one_of_which_nobody_knows_when_it_ends(
    ends: tuple[socket.socket, Link], siblings: Siblings
) -> None:
    tell(ends, siblings, None)
    assert not siblings.are_over()


def test_nor_where_its_descriptor_did_not_come(
    ends: tuple[socket.socket, Link], siblings: Siblings, said: list[str]
) -> None:
    siblings.take(frames.Sibling())
    assert not siblings.are_over()
    assert "has no last will" in said[0]


def test_a_node_of_one_zygote_waits_for_nobody(siblings: Siblings) -> None:
    assert siblings.are_over()


def test_those_that_are_over_cost_no_descriptor(ends: tuple[socket.socket, Link], siblings: Siblings) -> None:
    for _ in range(5):
        with subprocess.Popen(["true"]) as one:
            one.wait(10)
            tell_dead(ends, siblings)
    assert len(siblings.fds) <= 1


def tell_dead(ends: tuple[socket.socket, Link], siblings: Siblings) -> None:
    """There is another zygote, whose guard has ended."""
    with subprocess.Popen(["true"]) as one:
        guard = os.pidfd_open(one.pid)
        assert select.select([guard], [], [], 10)[0]
        socket.send_fds(ends[0], [frames.format_frame(frames.Sibling())], [guard])
        os.close(guard)
    (arrived,) = ends[1].read()
    assert isinstance(arrived, frames.Sibling)
    siblings.take(arrived)
