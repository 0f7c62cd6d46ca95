"""A pytest plugin: `pytest_plugins = ["mpfora.testing.plugin"]` in a conftest.py gives the fixture `handler_bench`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpfora.testing.benches import Benches


@pytest.fixture(scope="session")
def handler_bench() -> Iterator[Benches]:
    """`run = handler_bench(primes.count, {"below": 100}, steps=[...])`: as mpfora.testing.run, and many times quicker
    from a handler's second run on, since the process that has imported it is kept for the whole session.

    That process has the environment, working directory and modules of its start: what a test patches later does not
    reach it. Where it must, use mpfora.testing.run. It may be called in async tests too, whose loop waits meanwhile."""
    benches = Benches()
    yield benches
    benches.close()
