"""Native threads in the zygote: what a handler's module started at import. A fork copies none of them."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter

from mpfora.linux.procfs import read_text

#: libraries that start threads when they are loaded, and never name them
_LIBRARIES = re.compile(r"/(?:lib)?(?:scipy_)?(openblas|mkl|iomp5|gomp|omp|tbb|blis|torch_cpu|arrow|grpc)[-_.\w]*\.so")


def find_threads() -> list[str]:
    """The threads besides the main one, by name and number: "openblas 3". Empty is what a zygote should be."""
    main = os.getpid()
    python_names = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = Counter(_name(tid, python_names) for tid in map(int, os.listdir("/proc/self/task")) if tid != main)
    return [f"{name} {count}" for name, count in sorted(names.items())]


def _name(tid: int, python_names: dict[int | None, str]) -> str:
    if tid in python_names:
        return python_names[tid]
    name = _comm(tid)
    return name if name != _comm(os.getpid()) else _guess() or "without a name"


def _comm(tid: int) -> str:
    try:
        return read_text(f"/proc/self/task/{tid}/comm").strip()
    except OSError:
        return "unknown"


def _guess() -> str:
    """Threads that carry the process's own name: which of the loaded libraries are known to start such."""
    found = {match[1] for match in _LIBRARIES.finditer(read_text("/proc/self/maps"))}
    return "/".join(sorted(found))
