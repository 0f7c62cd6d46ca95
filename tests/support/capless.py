"""Scenes of a node that may not kill processes of other users: executed by test_unkillable.py without CAP_KILL.

A scene prints "left PID" for the process that it cannot kill. The test kills it then, and the scene goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from zygote_harness import is_alive, node, wait_dead

from mpfora.linux import procfs
from mpfora.model.outcome import Cause
from mpfora.supervisor.events import ChildExited
from mpfora.supervisor.zygote.cgroups import Groups


async def zygote_lost() -> None:
    """The process holds up its own run alone, whatever happens to the zygote."""
    async with node("other_user sleep ok") as n:
        held, other = await n.fork_to("left", "other_user"), await n.fork_to("sleeping", "sleep")
        left = int((await n.line(held, "left")).split()[1])
        os.kill(n.pid, signal.SIGKILL)
        await n.lost()
        assert [e.run for e in n.events if isinstance(e, ChildExited)] == [other]
        await n.start()
        assert (await n.run("ok")).cause is Cause.COMPLETED
        n.zygote.kill(held, Cause.LOST_CLAIM)
        assert n.zygote.progress(held) is None
        assert is_alive(left)
        print("left", left, flush=True)
        assert (await n.outcome(held)).cause is Cause.ZYGOTE_LOST
        assert not procfs.exists(left)


async def killed() -> None:
    """The process holds up its own run while others end, and the log says why it may not be killed."""
    async with node("other_user sleep ok") as n:
        held, other = await n.fork_to("left", "other_user"), await n.fork_to("sleeping", "sleep")
        left = int((await n.line(held, "left")).split()[1])
        n.zygote.kill(held, Cause.STOP_TIMEOUT, False)
        assert (await n.killed(other, dump=False)).cause is Cause.STOP_TIMEOUT
        assert (await n.run("ok")).cause is Cause.COMPLETED
        assert n.ends(held) == 0
        print("left", left, flush=True)
        assert (await n.outcome(held)).cause is Cause.STOP_TIMEOUT


async def leaving() -> None:
    """A supervisor that has no time left leaves; what stays with the process costs nothing until it is gone."""
    made = node("other_user")
    n = await made.__aenter__()
    run = await n.fork_to("left", "other_user")
    left = int((await n.line(run, "left")).split()[1])
    zygote = procfs.read_stat(n.pid)
    assert zygote is not None
    guard = zygote.ppid
    await asyncio.wait_for(n.zygote.close(late=True), 10)
    assert n.ends(run) == 0
    assert is_alive(left)
    stat = procfs.read_stat(guard)
    assert stat is not None
    await asyncio.sleep(1.0)  # a guard that spins uses this second, or what of it others leave
    later = procfs.read_stat(guard)
    assert later is not None, "it waits for what does not die"
    assert later.cpu_s - stat.cpu_s < 0.2
    print("left", left, flush=True)
    wait_dead(left)


async def grouped(name: str) -> None:
    """The kernel kills whatever is in a group, and needs no right for that."""
    groups = Groups(name, "node1", may_move=False)
    async with node("other_user", groups=groups) as n:
        if groups.path is None:
            print("no control groups")
        else:
            assert (await n.killed(await n.fork_to("left", "other_user"), dump=False)).cause is Cause.STOP_TIMEOUT
            assert not is_alive(int((await n.line(1, "left")).split()[1]))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
