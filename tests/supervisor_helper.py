"""A process with a zygote and runs, for tests that kill it: supervisor_helper.py NUMBER WILL_FILE [revoke|deadline].

Prints one line of JSON with the pids once all runs sleep, then stays. The will writes into WILL_FILE: which of the
children are alive, whether it bears the zygote's mark, and its stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys

from zygote_harness import node

from mpfora import linux

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


async def main(number: int, will_file: str, *how: str) -> None:
    async with node("sleep ok") as n:
        runs = [n.fork("sleep") for _ in range(number)]
        for run in runs:
            await n.line(run, "sleeping")
        pids = [await n.child_pid(run) for run in runs]
        argv = [sys.executable, "-c", WILL, will_file, *map(str, pids)]
        n.zygote.set_will((argv, "the secret of the will\n" * 10_000))
        if "revoke" in how:
            n.zygote.set_will(None)
        if "deadline" in how:
            n.zygote.set_deadline(linux.boot_ns() + 500_000_000)
        await n.run("ok")  # all that was said before has been heard
        print(json.dumps({"zygote": n.pid, "pids": pids}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
