"""Real faults for a minute, and two short runs with faults planted in the nodes: see tests/faults. The long form:
`python -m tests.faults --minutes 30`; with every plant: `python -m tests.faults --plant all`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.catches import catch
from tests.faults.plants import PLANTS
from tests.faults.report import report
from tests.faults.run import Record, run

#: of faults: the overture, and some that are drawn; starting the cluster and coming to an end take the rest of the
#: minute
FAULTS_S = 46.0
#: the plants that the overture's first wave brings to light, and how long that takes
FIRST, FIRST_S = ("deadline",), 14.0


@pytest.mark.timeout(240)
def test_no_overlap_no_loss_and_nothing_left_under_real_faults(tmp_path: Path) -> None:
    """The seed is printed; MPFORA_FAULTS_SEED draws the same faults again."""
    seed = int(os.environ.get("MPFORA_FAULTS_SEED") or random.randrange(10_000))
    record = run(tmp_path, seed, FAULTS_S)
    assert not record.violations, _story(record)
    assert record.faults
    assert len(record.evidence.lives) > len(record.evidence.ends), "no task was run again: the faults had no effect"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("plant", FIRST)
def test_a_planted_fault_is_caught_by_what_every_run_begins_with(plant: str, tmp_path: Path) -> None:
    record = run(tmp_path, 0, FIRST_S, plant=plant)
    assert catch(record).kinds, _story(record)


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("plant", [name for name, plant in PLANTS.items() if name not in FIRST and not plant.covered])
def test_a_planted_fault_is_caught(plant: str, tmp_path: Path) -> None:
    record = run(tmp_path, 0, FAULTS_S, plant=plant)
    assert catch(record).kinds, _story(record)


def _story(record: Record) -> str:
    logs = "".join(f"\n--- {name}\n{text[-6000:]}" for name, text in record.logs.items())
    return f"{report([record], f'seed {record.seed}')}{logs}"
