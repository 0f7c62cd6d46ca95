"""No test leaves a signal blocked or handled otherwise: what later tests start would inherit it, and not end by it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def signals_are_as_before() -> Iterator[None]:
    """Fails the test that leaves them changed, and puts them back."""
    with kept_signals() as left_changed:
        yield
    left, changed = left_changed
    if left or changed:
        pytest.fail(f"signals were left changed: the mask of {_names(left)}, the handlers of {_names(changed)}")


@contextmanager
def kept_signals() -> Iterator[tuple[set[Any], set[int]]]:
    """What is changed within is put back at the end, and then stands in what it gives: signals by mask and by handler.
    For a test that runs a whole program in its own process, too."""
    changes: tuple[set[Any], set[int]] = set(), set()
    mask, handlers = signal.pthread_sigmask(signal.SIG_BLOCK, ()), _handlers()
    try:
        yield changes
    finally:
        changes[0].update(signal.pthread_sigmask(signal.SIG_SETMASK, mask) ^ mask)
        changes[1].update(number for number, handler in _handlers().items() if handler != handlers[number])
        for number in changes[1]:
            if handlers[number] is not None:  # code in C has set it, and Python cannot
                signal.signal(number, handlers[number])


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _names(numbers: Any) -> str:
    return ", ".join(sorted(getattr(number, "name", str(number)) for number in map(_signal, numbers))) or "none"


def _signal(number: int) -> Any:
    try:
        return signal.Signals(number)
    except ValueError:
        return number
