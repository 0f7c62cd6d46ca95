"""Every benchmark, one after the other: python bench/all.py [NAME ...]. About ten minutes on two cores.

The table of README.md is made of what this prints on a quiet machine.
"""

from __future__ import annotations

import subprocess
import sys
import time

from common import HERE, ROOT, machine

BENCHMARKS = ("throughput", "claims", "deadlock", "supervisor_death", "memory", "idle", "beat")


def main(*names: str) -> int:
    print(machine(), flush=True)
    failed = []
    for name in names or BENCHMARKS:
        print(f"\n$ python bench/{name}.py", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], cwd=ROOT).returncode:
            failed.append(name)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
