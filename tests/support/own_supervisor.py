"""A supervisor in a process of its own, to be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from places import SUPPORT


class OwnSupervisor:
    """A supervisor in a process of its own (supervisor_helper.py), to be killed."""

    def __init__(self, *arguments: str) -> None:
        helper = SUPPORT / "supervisor_helper.py"
        self.process = subprocess.Popen(
            [sys.executable, str(helper), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self.process.stdout is not None
        says = json.loads(self.process.stdout.readline())
        self.zygote: int = says["zygote"]
        self.guard: int = says["guard"]
        self.pids: list[int] = says["pids"]
        self.copies: list[int] = says["copies"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
