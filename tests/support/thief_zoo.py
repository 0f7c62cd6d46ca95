"""A handler's module that takes the exits of all processes of the zygote, as some libraries do."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import Any


def _wait_for_any() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)


threading.Thread(target=_wait_for_any, daemon=True, name="thief").start()


def ok(task: Any, ctx: Any) -> str:
    return "well"


def vanishes(task: Any, ctx: Any) -> None:
    os._exit(7)


def leaves(task: Any, ctx: Any) -> None:
    """A process in a session of its own stays behind."""
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("left", left.pid, flush=True)


def sleep(task: Any, ctx: Any) -> None:
    print("sleeping", flush=True)
    time.sleep(60)
