"""What this machine has that tasks share, counted when a node starts: cores, memory, GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping

import psutil

#: how long nvidia-smi may take: it hangs where a GPU is broken
_SMI_S = 5.0
#: variables that say which GPUs a process may use
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_DEVICE = re.compile(r"nvidia\d+\Z")


def count_cpus() -> tuple[int, str]:
    """(thousandths of a core that this process may run on, "")."""
    return 1000 * len(os.sched_getaffinity(0)), ""


def count_memory() -> tuple[int, str]:
    """(bytes of memory, "")."""
    return int(psutil.virtual_memory().total), ""


def count_gpus() -> tuple[int, str]:
    """(how many GPUs this process may use, why there are none or what is odd about them; "" if nothing is)."""
    visible = visible_gpus()
    if visible is not None:
        return len(visible), "" if visible else f"{_variable()} is set to nothing, so no GPU may be used"
    devices = sum(1 for name in _listed("/dev") if _DEVICE.match(name))
    count, problem = _asked_nvidia_smi()
    if count is not None:
        return count, "" if count else "nvidia-smi lists no GPU"
    if devices:
        return devices, f"{devices} by /dev/nvidia*, as {problem}" if problem else ""
    return 0, f"there is no /dev/nvidia0{f', and {problem}' if problem else ''}: no GPUs; write a number for others"


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that this process's environment lets it use, as CUDA names them; None: it says nothing."""
    name = _variable()
    if name is None:
        return None
    found = [part.strip() for part in os.environ[name].split(",")]
    # CUDA takes no notice of what follows an entry that names no device
    first_bad = next((place for place, part in enumerate(found) if part in ("", "-1", "NoDevFiles")), len(found))
    return tuple(found[:first_bad])


def _variable() -> str | None:
    return next((name for name in VISIBLE if name in os.environ), None)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _asked_nvidia_smi() -> tuple[int | None, str]:
    """(how many GPUs it lists, "") or (None, why it lists none; "" if it is not there)."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, ""
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_SMI_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"nvidia-smi does not answer within {_SMI_S:g} s"
    except (OSError, ValueError) as error:
        return None, f"nvidia-smi cannot be run: {error}"
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return None, f"nvidia-smi fails: {lines[0][:200] if lines else f'exit {done.returncode}'}"
    return sum(1 for line in done.stdout.splitlines() if line.startswith("GPU ")), ""


#: the resources whose amount may be "auto"
COUNTERS: Mapping[str, Callable[[], tuple[int, str]]] = {
    "gpus": count_gpus,
    "cpus": count_cpus,
    "memory": count_memory,
}
