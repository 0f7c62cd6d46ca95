"""What one run's process costs, beside the same of another tree: python bench/child.py [--against TREE] [--runs N]

TREE is a checkout of another commit (git worktree add TREE COMMIT). Both are measured in turns, round after round, and
each figure is the least of its rounds, CPU and time of a run the tenth percentile in a round: what else the machine
does only adds to it. With control groups where this machine lets this user have them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import HERE, ROOT, machine

NAMES = {
    "own_mib": "memory of its own at rest (USS), MiB",
    "faults": "page faults until its handler runs",
    "child_ms": "CPU of the child, ms",
    "zygote_faults": "page faults of the zygote for it",
    "zygote_ms": "CPU of the zygote for it, ms",
    "run_ms": "an empty run from call to answer, ms",
}


def probe(tree: Path, runs: int, *words: str) -> dict[str, float]:
    """Raises CalledProcessError."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(HERE)]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(HERE / "child_probe.py"), str(runs), *words]
    done = subprocess.run(command, env=environment, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def least(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: min(each[name] for each in rounds) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another tree of mpfora")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    print(machine())
    columns: dict[str, tuple[Path, tuple[str, ...]]] = {"here": (ROOT, ())}
    if options.against is not None:
        columns = {"there": (options.against.resolve(), ()), **columns}
    columns["here, with groups"] = (ROOT, ("groups",))
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in columns}
    for _ in range(options.rounds):
        for name, (tree, words) in list(columns.items()):
            try:
                rounds[name].append(probe(tree, options.runs, *words))
            except subprocess.CalledProcessError:
                print(f"{name}: left out, it cannot be measured here")
                del columns[name]
    found = {name: least(rounds[name]) for name in columns}
    print(f"{'':42}" + "".join(f"{name:>20}" for name in found))
    for key, title in NAMES.items():
        figures = [row.get(key) for row in found.values()]
        print(f"{title:42}" + "".join(f"{'':>20}" if each is None else f"{each:20.2f}" for each in figures))


if __name__ == "__main__":
    main()
