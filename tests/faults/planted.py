"""`python -m tests.faults.planted ...`: a node with a fault planted in it, in place of `python -m mpfora.supervisor`.

The variable FAULTS_PLANT names the fault (plants.py, or MODULE:NAME); its zygote has the same. Nothing of this is known
to mpfora.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

#: in a node's environment: the name of the plant
PLANT = "FAULTS_PLANT"


def planted(argv: Sequence[str]) -> list[str]:
    """The command of a node, as one with a plant."""
    return [part if part != "mpfora.supervisor" else __name__ for part in argv]


def _plant() -> Any:
    module, _, name = os.environ[PLANT].rpartition(":")
    return importlib.import_module(module or "tests.faults.plants").PLANTS[name]


def supervisor() -> None:
    from mpfora.supervisor.__main__ import run
    from mpfora.supervisor.zygote import command_line

    boot = "from mpfora.child.zygote.start import main; main()"
    assert boot in command_line._BOOT, "the zygote would have no fault"
    command_line._BOOT = command_line._BOOT.replace(boot, f"from {__name__} import zygote; zygote()")
    _plant().in_supervisor()
    run()


def zygote() -> None:
    from mpfora.child.zygote.start import main

    _plant().in_zygote()
    main()


if __name__ == "__main__":
    importlib.import_module("tests.faults.planted").supervisor()  # under the name that the zygote imports it by
