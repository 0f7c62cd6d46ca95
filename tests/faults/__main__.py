"""python -m tests.faults --minutes 30 [--seed N] [--report FILE] [--folder FOLDER]: real faults for long, in rounds.
python -m tests.faults --plant NAME|all [--runs N]: the same with a fault planted in the nodes, which must be caught."""

from __future__ import annotations

import argparse
import pickle
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from .catches import Catch, catch, catches
from .plants import PLANTS
from .report import report
from .run import Record, run

ROUND_S = 300.0
#: of a run with a plant: the overture, and some more
PLANTED_S = 45.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="in all, without a plant [30]; of each run with one [0.75]")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--report", type=Path, help="write the result as Markdown to this file")
    parser.add_argument("--folder", type=Path, help="keep the lines, logs and records of every round here")
    parser.add_argument("--plant", choices=[*PLANTS, "all"], help="a fault to plant in every node")
    parser.add_argument("--runs", type=int, default=3, help="how often each plant is tried [3]")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # all that was started is ended
    seed = random.randrange(10_000) if options.seed is None else options.seed
    return _plant(options, seed) if options.plant else _torment(options, seed)


def _torment(options: argparse.Namespace, seed: int) -> int:
    """1: there were violations."""
    minutes = 30.0 if options.minutes is None else options.minutes
    left_s = minutes * 60
    records: list[Record] = []
    while left_s > 0:
        length = min(ROUND_S, left_s)
        records.append(_round(seed + len(records), length, options.folder))
        left_s -= length
        text = report(records, f"python -m tests.faults --minutes {minutes:g} --seed {seed}")
        if options.report is not None:
            options.report.write_text(text)
    print(text)
    return 1 if any(record.violations for record in records) else 0


def _plant(options: argparse.Namespace, seed: int) -> int:
    """1: one was missed that no other safeguard covers."""
    found: list[Catch] = []
    names = list(PLANTS) if options.plant == "all" else [options.plant]
    seconds = PLANTED_S if options.minutes is None else options.minutes * 60
    for name in names:
        for number in range(options.runs):
            found.append(catch(_round(seed + number, seconds, options.folder, name)))
            text = catches(found, f"python -m tests.faults --plant {options.plant} --runs {options.runs} --seed {seed}")
            if options.report is not None:
                options.report.write_text(text)
    print(text)
    return 1 if any(not (one.kinds or PLANTS[one.plant].covered) for one in found) else 0


def _round(seed: int, seconds: float, keep: Path | None, plant: str = "") -> Record:
    with tempfile.TemporaryDirectory(prefix="mpfora-faults-") as name:
        folder = Path(name)
        record = run(folder, seed, seconds, plant=plant)
        for violation in record.violations:
            print(f"VIOLATION {violation}", flush=True)
        if keep is not None:
            _keep(record, folder, keep, f"{plant}{seed}")
    return record


def _keep(record: Record, folder: Path, keep: Path, prefix: str) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "lines", keep / f"{prefix}.lines")
    (keep / f"{prefix}.pickle").write_bytes(pickle.dumps(record))
    for name, text in record.logs.items():
        (keep / f"{prefix}.{name}.log").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
