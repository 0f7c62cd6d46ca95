"""Native threads in the zygote: what a handler's module started at import. A fork copies none of them."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter

#: libraries that start threads when they are loaded, and never name them
_LIBRARIES = re.compile(
    r"/lib(openblas|mkl|iomp5|gomp|omp|tbb|blis|torch_cpu|arrow|grpc)[-_.\w]*\.so|/(scipy_openblas)"
)


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
    return name if name != _comm(os.getpid()) else _guess() or name


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _guess() -> str:
    """Threads that carry the process's own name: which of the loaded libraries are known to start such."""
    with open("/proc/self/maps") as file:
        found = {match[1] or "openblas" for match in _LIBRARIES.finditer(file.read())}
    return "/".join(sorted(found))
