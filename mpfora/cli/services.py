"""The commands that run something: the demo, and the embedded etcd in the foreground."""

from __future__ import annotations

import importlib
import signal
import sys

import click

from mpfora.cli import printing
from mpfora.cli.session import Session
from mpfora.embedded import acquire


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    short_help="Show a cluster at work, in one minute.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> int:
    """Start an etcd, nodes, and good and hostile tasks, and show what becomes of them."""
    module = importlib.import_module("mpfora.demo")
    return int(module.main(list(arguments)) or 0)


@click.command("etcd")
@click.pass_obj
def foreground_etcd(session: Session) -> int:
    """Run the embedded etcd, or join it, until Ctrl-C.

    Prints its endpoint (unix:/PATH) on standard output when it serves. Choose its folder and its program by --data-dir
    and --etcd-program, before the command. It stays as long as nodes or others use it, and some seconds after.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with acquire(session.where.data_dir, session.where.program) as etcd:
        verb = "started" if etcd.started else "joined"
        printing.tell(f"{verb} the embedded etcd, pid {etcd.etcd_pid}; its data is in {etcd.data_dir}")
        printing.say(etcd.endpoint)
        sys.stdout.flush()
        try:
            etcd.gone.wait()
        except KeyboardInterrupt:
            return 0
        printing.tell(f"the embedded etcd at {etcd.endpoint} was stopped")
        return 1


COMMANDS = (demo, foreground_etcd)
