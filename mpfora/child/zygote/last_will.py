"""The last will: the program that the zygote executes when the supervisor is gone and every child is dead."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mpfora.child.zygote.link import Link
from mpfora.ipc import frames
from mpfora.linux import syscalls

#: how long the program may take; the lease it releases runs out by itself soon after
WILL_S = 10.0
#: how long the other zygotes of the node are waited for. Less than their guards stay with what does not die: one that
#: has ended within this time has left nothing behind
SIBLINGS_S = 30.0


class LastWill(NamedTuple):
    """argv, and the descriptor that the program gets as its standard input: it holds secrets, so nobody reads it
    before."""

    argv: Sequence[str]
    stdin: int


class KeptWill:
    """The will that is in force. link: by which its descriptors come.  notice: called with a level and a text for the
    node's log."""

    def __init__(self, link: Link, notice: Callable[[str, str], None]) -> None:
        self._link, self._notice = link, notice
        self.kept: LastWill | None = None

    @property
    def fds(self) -> list[int]:
        """Those that no child must keep."""
        return [] if self.kept is None else [self.kept.stdin]

    def take(self, frame: frames.Will) -> None:
        """It takes the place of the one before."""
        self.drop()
        if frame.argv is None:
            return
        try:
            (stdin,) = self._link.take_fds(1)
        except OSError as error:
            self._notice(
                "warning",
                f"cannot take this node's last will: {error}; if its supervisor dies, its claims end with its lease",
            )
            return
        self.kept = LastWill(frame.argv, stdin)

    def drop(self) -> None:
        if self.kept is not None:
            os.close(self.kept.stdin)
            self.kept = None


class Siblings:
    """The other zygotes of this node, each by a pidfd of its guard. The will gives all claims of the node back, so it
    waits for their processes, too. link, notice: as for KeptWill."""

    def __init__(self, link: Link, notice: Callable[[str, str], None]) -> None:
        self._link, self._notice = link, notice
        self._guards: list[int] = []
        self._are_known = True

    def take(self, frame: frames.Sibling) -> None:
        """There is one more. Where nobody can know when that is over, there is no will."""
        self._forget_over()
        if not frame.is_known:
            self._are_known = False
            return
        try:
            self._guards += self._link.take_fds(1)
        except OSError as error:
            self._are_known = False
            self._notice("warning", f"this node has no last will beside its former zygote: {error}")

    @property
    def fds(self) -> Sequence[int]:
        """What a child has no use of."""
        return self._guards

    def are_over(self) -> bool:
        """Wait for them. Called when the supervisor is dead, which makes all of them end. False: something lives."""
        by_s = time.monotonic() + SIBLINGS_S
        while self._guards and (left_s := by_s - time.monotonic()) > 0:
            self._forget_over(left_s)
        return self._are_known and not self._guards

    def _forget_over(self, within_s: float = 0.0) -> None:
        poll = select.poll()
        for guard in self._guards:
            poll.register(guard, select.POLLIN)
        for guard, _ in poll.poll(within_s * 1000) if self._guards else ():
            self._guards.remove(guard)
            os.close(guard)


def execute(will: LastWill, environment: Mapping[str, str]) -> None:
    """Run it, for a bounded time. Nobody is left to hear how it went: what it did not release ends with the lease."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    files = [(os.POSIX_SPAWN_DUP2, will.stdin, 0), *((os.POSIX_SPAWN_DUP2, null, number) for number in (1, 2))]
    syscalls.close_all_but(sorted({0, 1, 2, will.stdin, null}))
    try:
        pid = os.posix_spawnp(
            will.argv[0], list(will.argv), environment, file_actions=files, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
        )
    except OSError:
        return
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not poll.poll(WILL_S * 1000):
        signal.pidfd_send_signal(ended, signal.SIGKILL)
    os.waitpid(pid, 0)
