"""A pytest plugin: `pytest_plugins = ["mpfora.testing.plugin"]` in a conftest.py gives the fixture `handler_bench`, and
tells of a failed test why the runs ended that it made."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from mpfora.testing.bench import RECENT
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    RECENT.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        report.sections.extend((f"run {number} of a handler", run.describe()) for number, run in enumerate(RECENT, 1))
    return report
