"""Objects as segments of a parcel, and back: pickle of protocol 5, and cloudpickle where that alone can do it.

Imported by a pool and by its children. Nodes and their tasks do not use it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

#: shorter buffers go into the pickle itself: each one of its own costs a page
_OUT_OF_BAND = 4096


class CannotPickle(Exception):
    """The text says what cannot be pickled, and the remedy. The cause is the error of pickle."""


def pack(value: Any, *, by_value: bool = False) -> list[bytes | memoryview]:
    """The segments of a value: its pickle, and the buffers that it refers to, not copied. Raises CannotPickle, and
    whatever else the value's own code raises.

    by_value: what stands in a script that no other process can import goes along as it is."""
    if by_value:
        return _with(_cloudpickle(None), value)
    try:
        return _with(pickle, value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return _with(_cloudpickle(error), value)


def unpack(segments: Sequence[memoryview]) -> Any:
    """Raises whatever unpickling raises."""
    return pickle.loads(segments[0], buffers=segments[1:])


def _with(module: Any, value: Any) -> list[bytes | memoryview]:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Whether it goes into the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:  # it does not lie in one piece
            return True
        if raw.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return [module.dumps(value, protocol=5, buffer_callback=keep), *buffers]


def _cloudpickle(error: Exception | None) -> ModuleType:
    """Raises CannotPickle where it is not installed."""
    try:
        return import_module("cloudpickle")
    except ImportError:
        why = "no other process can import what was typed into a shell or a notebook" if error is None else error
        raise CannotPickle(
            f"{why}. A pool takes what a module holds at its top level, or install cloudpickle"
            " (pip install cloudpickle) for lambdas, inner functions and notebooks"
        ) from error
