"""What a run was given of its node's resources, put to use: its environment, its threads, the cores that it may use."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from mpfora.model.run_spec import Given

#: modules that bring libraries with threads of their own
_THREADED = ("numpy", "scipy", "torch", "sklearn", "threadpoolctl")


def put_to_use(given: Given) -> None:
    """Called before any code of the handler runs. What cannot be done is printed, and the run goes on: it was given no
    less."""
    os.environ.update(given.environment)
    if given.cores:
        try:
            os.sched_setaffinity(0, given.cores)
        except OSError as error:
            print(f"mpfora: this run cannot be kept on the cores {given.cores}: {error}", file=sys.stderr)
    threads = given.environment.get("OMP_NUM_THREADS")
    if threads and any(name in sys.modules for name in _THREADED):
        _limit_threads(int(threads))


def _limit_threads(count: int) -> None:
    """Libraries that are loaded already have read their environment before."""
    try:
        limits = import_module("threadpoolctl").threadpool_limits
    except ImportError:
        return
    try:
        limits(count)
    except Exception as error:  # noqa: BLE001 - a library's own
        print(f"mpfora: the libraries that are loaded may use more than {count} threads: {error}", file=sys.stderr)
