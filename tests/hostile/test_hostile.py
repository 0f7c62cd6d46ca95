"""Generated hostile tasks on real nodes for a short while: see tests/hostile. The long form: `python -m tests.hostile
--minutes 10`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.hostile.checker import Evidence, check
from tests.hostile.run import run

STREAM_S = 20.0


@pytest.mark.timeout(300)
def test_hostile_tasks_reach_nothing_beside_them(tmp_path: Path) -> None:
    """The seed is printed; MPFORA_HOSTILE_SEED draws the same tasks again."""
    seed = int(os.environ.get("MPFORA_HOSTILE_SEED") or random.randrange(10_000))
    evidence = run(tmp_path, seed, STREAM_S)
    assert not check(evidence), _story(evidence)
    assert len(evidence.hostile) > 10
    assert evidence.goods


def _story(evidence: Evidence) -> str:
    logs = "".join(f"\n--- {name}\n{text[-6000:]}" for name, text in evidence.logs.items())
    return "\n".join(str(violation)[:3000] for violation in check(evidence)) + logs
