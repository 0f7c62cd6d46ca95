"""What a node finds on its machine and in its settings. `mpfora doctor` asks for it and judges it. Read in a thread,
when somebody asks."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from mpfora._version import __version__
from mpfora.config.settings import Settings
from mpfora.linux.procfs import read_text

#: variables that bound the threads of numeric libraries
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: parts of the names of libraries that start a thread for each core
_THREADED = ("openblas", "libgomp", "libiomp", "libmkl", "libtbb")
_SYSTEMCTL_S = 3.0


def machine_facts(settings: Settings, is_notified: bool = False) -> dict[str, Any]:
    """JSON values. What cannot be found out is None. is_notified: a service manager is told how the node is, and gives
    it the time that it needs to stop."""
    log_dir = getattr(settings, "log_dir", None)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "max_tasks": settings.max_tasks,
        "memory_limit": settings.memory_limit,
        "stop_timeout_s": settings.stop_timeout_s,
        "lease_ttl_s": settings.lease_ttl_s,
        "cgroup_memory": _cgroup_value("memory", "memory.max", "memory.limit_in_bytes"),
        "cgroup_pids": _cgroup_value("pids", "pids.max", "pids.max"),
        "yama": _number("/proc/sys/kernel/yama/ptrace_scope"),
        "has_py_spy": shutil.which("py-spy") is not None or importlib.util.find_spec("py_spy") is not None,
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "numeric": _numeric_libraries(),
        "grace_s": _grace_s(),
        "is_notified": is_notified,
        "in_kubernetes": "KUBERNETES_SERVICE_HOST" in os.environ,
        "log_disk": _disk(str(log_dir)) if log_dir else None,
    }


def _number(path: str | Path) -> int | None:
    """None: there is no such file, or "max" stands there."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _cgroup_value(controller: str, unified: str, former: str) -> int | None:
    """The least value on the way from the node's group to the root; None: nothing limits it."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for line in read_text("/proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                roots = [(Path("/sys/fs/cgroup"), unified), (Path("/sys/fs/cgroup/unified"), unified)]
            elif controller in controllers.split(","):
                roots = [(Path("/sys/fs/cgroup") / controller, former)]
            else:
                continue
            for root, name in roots:
                group = root / path.lstrip("/")
                groups = [group, *group.parents] if group != root else [group]
                limits = [_number(one / name) for one in groups if one.is_relative_to(root)]
                found += [limit for limit in limits if limit is not None and limit < 2**60]
    return min(found, default=None)


def _numeric_libraries() -> list[str]:
    """The libraries with threads of their own that the zygote has loaded with the handlers."""
    found: set[str] = set()
    with contextlib.suppress(psutil.Error, OSError):
        for guard in psutil.Process().children():
            for zygote in (guard, *guard.children()):
                for line in read_text(f"/proc/{zygote.pid}/maps").splitlines():
                    name = line.rpartition("/")[2].lower()
                    found |= {part for part in _THREADED if part in name}
    return sorted(found)


def _grace_s() -> float | None:
    """How long whoever stops the node lets it live: as MPFORA_GRACE says, or systemd's unit. None: nobody says."""
    with contextlib.suppress(ValueError):
        if told := os.environ.get("MPFORA_GRACE"):
            return float(told.removesuffix("s"))
    unit = _unit()
    if unit is None or shutil.which("systemctl") is None:
        return None
    command = ("systemctl", "show", "--property=TimeoutStopUSec", "--value", unit)
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=True).stdout
        return parse_systemd_span(said.strip())
    return None


def _unit() -> str | None:
    """The service of systemd that this process is of."""
    with contextlib.suppress(OSError):
        for line in read_text("/proc/self/cgroup").splitlines():
            for part in reversed(line.rpartition(":")[2].split("/")):
                if part.endswith(".service") and not part.startswith("user@"):
                    return part
    return None


_SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_systemd_span(text: str) -> float:
    """Seconds of a span as systemctl shows it, like "1min 30s". Raises ValueError."""
    if text == "infinity":
        return float("inf")
    total = 0.0
    for part in text.split():
        number = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        if part[len(number) :] not in _SPANS:
            raise ValueError(f"{text!r} is not a span of systemd's")
        total += float(number) * _SPANS[part[len(number) :]]
    if not text.split():
        raise ValueError("there is no span")
    return total


def _disk(folder: str) -> dict[str, int] | None:
    """The disk of the folder, or of the nearest that exists above it."""
    path = Path(folder).expanduser()
    for one in (path, *path.parents):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(one)
            return {"total": usage.total, "free": usage.free}
    return None
