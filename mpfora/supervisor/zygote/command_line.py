"""The command line and the environment that the zygote is executed with."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from mpfora.config.handler_spec import HandlerSpec, Preload
from mpfora.config.settings import SECRETS
from mpfora.ipc.marks import ZYGOTE_MARK

#: `python -m mpfora.child.zygote` that looks for modules where this process does, mpfora itself among them
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from mpfora.child.run import fork_hooks;"
    " fork_hooks.hold_back(); from mpfora.child.zygote.start import main; main()"
)
#: between two dumps of the zygote's stacks while it imports, at most
_DUMP_EVERY_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What a zygote is to import, and for whom.

    specs    the handlers
    node     the name of the node, for the title of its processes
    generation  how many zygotes of the node have imported the handlers with this one
    tells_files  it says what its modules were imported from
    preload  given where it is a guest in somebody's program: what it imports besides. Handlers find the sys.argv of
             that program then
    """

    specs: Sequence[HandlerSpec]
    node: str
    preload: Preload | None = None
    generation: int = 1
    tells_files: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Inherited:
    """What a zygote gets of its supervisor. socket, urgent, slots: descriptors; nofile: its soft limit of open files;
    groups: the folder for the control groups of runs, "" for none."""

    socket: int
    urgent: int
    slots: int
    nofile: int
    groups: str = ""

    @property
    def fds(self) -> tuple[int, int, int]:
        return self.socket, self.urgent, self.slots


def zygote_command(program: Program, inherited: Inherited, import_s: float) -> list[str]:
    """import_s: how long importing may take; the zygote dumps its stacks in good time before that."""
    specs, preload = program.specs, program.preload
    handlers = json.dumps([dataclasses.asdict(spec) for spec in specs])
    argv = _arguments(specs) if preload is None else sys.argv
    preloads = json.dumps(dataclasses.asdict(preload or Preload()))
    dump_every_s = min(_DUMP_EVERY_S, 0.45 * import_s)
    return [
        sys.executable, *_interpreter_flags(), "-c", _BOOT, json.dumps(module_path()), "--fd", str(inherited.socket),
        "--urgent-fd", str(inherited.urgent), "--slots-fd", str(inherited.slots), "--node", program.node,
        "--handlers", handlers, "--argv", json.dumps(argv), "--dump-every", str(dump_every_s),
        "--nofile", str(inherited.nofile), "--preload", preloads, "--groups", inherited.groups,
        "--generation", str(program.generation), "--tell-files", "yes" if program.tells_files else "no",
    ]  # fmt: skip


def zygote_environment(mark: str) -> dict[str, str]:
    """The node's own environment without its secrets, as tasks find it. mark: the value of ZYGOTE_MARK."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS} | {ZYGOTE_MARK: mark}


def module_path() -> list[str]:
    """Where this program looks for modules. What is not text in sys.path finds none."""
    return [folder for folder in sys.path if isinstance(folder, str)]


def _interpreter_flags() -> list[str]:
    """-O, -X dev, -W error and the like, as this interpreter was given them; multiprocessing passes them on so."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def _arguments(specs: Sequence[HandlerSpec]) -> list[str]:
    """The sys.argv of handlers. A script that holds handlers keeps its own arguments, as with multiprocessing; the
    arguments of a node are not for them."""
    is_script = any(spec.main_path or spec.main_module for spec in specs)
    return sys.argv if is_script else ["mpfora"]
