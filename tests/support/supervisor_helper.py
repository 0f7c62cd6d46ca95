"""A process with a zygote and runs, for tests that kill it: supervisor_helper.py NUMBER WILL_FILE
[revoke|deadline|copies|HANDLER|groups=NAMESPACE].

Prints one line of JSON with the pids once all runs sleep, then stays. copies: processes are forked from it, before the
zygote is executed and after; HANDLER: which is run instead of `sleep`; groups: its runs have
control groups. The will writes into WILL_FILE: which of the
children are alive, whether it bears the zygote's mark, and its stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from zygote_harness import node

from mpfora.linux import syscalls
from mpfora.linux.procfs import read_stat
from mpfora.supervisor.zygote.cgroups import Groups

WILL = """
import os, sys
def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
alive = [pid for pid in map(int, sys.argv[2:]) if is_alive(pid)]
text = f"{alive}\\n{'MPFORA_ZYGOTE' in os.environ}\\n{sys.stdin.read()}"
with open(sys.argv[1], "w") as file:
    file.write(text)
"""


def copy() -> int:
    """Fork a process that keeps what it finds open, as multiprocessing does."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


async def main(number: int, will_file: str, *how: str) -> None:
    handler = next((one for one in how if one in ("becomes_another", "bare_daemon")), "sleep")
    copies = [copy()] if "copies" in how else []
    name = next((one.partition("=")[2] for one in how if one.startswith("groups=")), "")
    async with node(f"{handler} ok", groups=Groups(name, "n1", may_move=False) if name else None) as n:
        runs = [n.fork(handler) for _ in range(number)]
        for run in runs:
            await n.line(run, "bare" if handler == "bare_daemon" else "sleeping")
        copies += [copy()] if "copies" in how else []
        pids = [await n.child_pid(run) for run in runs]
        argv = [sys.executable, "-c", WILL, will_file, *map(str, pids)]
        n.zygote.set_will((argv, "the secret of the will\n" * 10_000))
        if "revoke" in how:
            n.zygote.set_will(None)
        if "deadline" in how:
            n.zygote.set_deadline(syscalls.boot_ns() + 500_000_000)
        await n.run("ok")  # all that was said before has been heard
        if handler == "bare_daemon":
            pids += [int((await n.line(run, "bare")).split()[1]) for run in runs]
        stat = read_stat(n.pid)
        assert stat is not None
        print(json.dumps({"zygote": n.pid, "guard": stat.ppid, "pids": pids, "copies": copies}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
