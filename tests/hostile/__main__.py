"""python -m tests.hostile --minutes 10 [--seed N] [--report FILE] [--folder FOLDER]: hostile tasks for long, in rounds.
python -m tests.hostile --plant NAME|all [--runs N]: the same with a guard taken away, which must be told."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from .checker import Evidence, check
from .plants import PLANTS
from .report import report
from .run import run

ROUND_S = 240.0
#: of a run with a plant
PLANTED_S = 40.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of the stream, in all [10]")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--report", type=Path, help="write the result as Markdown to this file")
    parser.add_argument("--folder", type=Path, help="keep the logs of every round here")
    parser.add_argument("--plant", choices=[*PLANTS, "all"], help="a guard to take away in every node")
    parser.add_argument("--runs", type=int, default=1, help="how often each plant is tried [1]")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # all that was started is ended
    seed = random.randrange(10_000) if options.seed is None else options.seed
    if options.plant:
        return _plant(options, seed)
    left_s, rounds = options.minutes * 60, []
    while left_s > 0:
        length = min(ROUND_S, left_s)
        rounds.append(_round(seed + len(rounds), length, options.folder))
        left_s -= length
        text = report(rounds, f"python -m tests.hostile --minutes {options.minutes:g} --seed {seed}")
        if options.report is not None:
            options.report.write_text(text)
    print(text)
    return 1 if any(check(evidence) for evidence in rounds) else 0


def _plant(options: argparse.Namespace, seed: int) -> int:
    """1: one was missed."""
    missed = 0
    for name in list(PLANTS) if options.plant == "all" else [options.plant]:
        for number in range(options.runs):
            found = Counter(one.kind for one in check(_round(seed + number, PLANTED_S, options.folder, name)))
            caught = {kind: count for kind, count in found.items() if kind in PLANTS[name].kinds}
            missed += not caught
            print(f"{name} ({PLANTS[name].text}): {'caught by ' + str(caught) if caught else 'MISSED'}", flush=True)
    return 1 if missed else 0


def _round(seed: int, seconds: float, keep: Path | None, plant: str = "") -> Evidence:
    with tempfile.TemporaryDirectory(prefix="mpfora-hostile-") as name:
        evidence = run(Path(name), seed, seconds, plant=plant)
    found = check(evidence)
    for violation in found:
        print(f"VIOLATION {str(violation)[:3000]}", flush=True)
    print("  " + (str(dict(Counter(one.kind for one in found))) if found else "nothing to be told"), flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for log, text in evidence.logs.items():
            (keep / f"{seed}.{log}.log").write_text(text)
    return evidence


if __name__ == "__main__":
    sys.exit(main())
