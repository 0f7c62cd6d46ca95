"""`python -m tests.faults.planted ...`: a node with a fault planted in it, in place of `python -m mpfora.supervisor`.

The variable FAULTS_PLANT names the fault (plants.py); its zygote has the same. Nothing of this is known to mpfora.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

#: in a node's environment: the name of the plant
PLANT = "FAULTS_PLANT"


def planted(argv: Sequence[str]) -> list[str]:
    """The command of a node, as one with a plant."""
    return [part if part != "mpfora.supervisor" else __name__ for part in argv]


def supervisor() -> None:
    from mpfora.supervisor import zygote_process
    from mpfora.supervisor.__main__ import run

    from .plants import PLANTS

    zygote_process._BOOT = zygote_process._BOOT.replace(
        "from mpfora.child.zygote import main; main()", f"from {__name__} import zygote; zygote()"
    )
    PLANTS[os.environ[PLANT]].in_supervisor()
    run()


def zygote() -> None:
    from mpfora.child.zygote import main

    from .plants import PLANTS

    PLANTS[os.environ[PLANT]].in_zygote()
    main()


if __name__ == "__main__":
    importlib.import_module("tests.faults.planted").supervisor()  # under the name that the zygote imports it by
