"""python -m tests.sim --seed N: run one seed again, with its trace. --seeds A:B: run many, and tell what failed."""

from __future__ import annotations

import argparse
import sys
import time

from .pool import run_many
from .runner import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and print what happens")
    parser.add_argument("--profile", help="with --seed: draw this kind of life")
    parser.add_argument("--quiet", action="store_true", help="with --seed: the verdict alone")
    parser.add_argument("--seeds", help="A:B, from A to before B, on all processors")
    options = parser.parse_args()
    if options.seed is not None:
        verdict = run(options.seed, None if options.quiet else print, options.profile)
        print(verdict.scenario)
        print(verdict)
        return 1 if verdict.violations else 0
    first, _, last = (options.seeds or "0:200").partition(":")
    began = time.monotonic()
    tally = run_many(range(int(first), int(last)))
    for verdict in tally.failed:
        print(verdict, end="\n\n")
    print(tally, f"in {time.monotonic() - began:.1f} s")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
