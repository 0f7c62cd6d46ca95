"""The soak, in short; `python tests/pool/soak.py` runs it for an hour."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from soak import DEEDS, Soak


@pytest.mark.timeout(300)
def test_random_calls_of_eight_threads_end_as_they_should_and_nothing_is_left() -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    soak = Soak(8.0, seed)
    soak.run()
    assert sum(soak.done.values()) > len(DEEDS)
