"""python -m tests.faults --minutes 30 [--seed N] [--report FILE]: real faults for long, in rounds of five minutes."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from .report import report
from .run import Record, run

ROUND_S = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--report", type=Path, help="write the result as Markdown to this file")
    parser.add_argument("--folder", type=Path, help="keep the lines and logs of every round here")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # all that was started is ended
    seed = random.randrange(10_000) if options.seed is None else options.seed
    left_s = options.minutes * 60
    records: list[Record] = []
    while left_s > 0:
        length = min(ROUND_S, left_s)
        records.append(_round(seed + len(records), length, options.folder))
        left_s -= length
        text = report(records, f"python -m tests.faults --minutes {options.minutes:g} --seed {seed}")
        if options.report is not None:
            options.report.write_text(text)
    print(text)
    return 1 if any(record.violations for record in records) else 0


def _round(seed: int, seconds: float, keep: Path | None) -> Record:
    with tempfile.TemporaryDirectory(prefix="mpfora-faults-") as name:
        folder = Path(name)
        record = run(folder, seed, seconds)
        for violation in record.violations:
            print(f"VIOLATION {violation}", flush=True)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / "lines", keep / f"{seed}.lines")
            for name, text in record.logs.items():
                (keep / f"{seed}.{name}.log").write_text(text)
    return record


if __name__ == "__main__":
    sys.exit(main())
