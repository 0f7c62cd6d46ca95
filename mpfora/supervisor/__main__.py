"""`python -m mpfora.supervisor [HANDLER ...]`: a node, from the command line.

Exit codes: 0 stopped in order; 2 bad usage or configuration; 3 etcd not reachable at start; 4 the node's name is
taken; 5 a handler cannot be imported; 6 the store cannot be followed any more (its history went back, or the right to
read it was taken away); 1 a bug, or the machine refuses what a node needs (descriptors, threads, memory).
"""

from __future__ import annotations

import errno
import faulthandler
import sys
from contextlib import ExitStack
from typing import Any, NoReturn

import click

from mpfora._version import __version__
from mpfora.config.etcd_location import Where
from mpfora.config.etcd_options import etcd_options
from mpfora.config.handler_spec import HandlerSpecError, check_names, parse_spec
from mpfora.config.node_options import explain, make_settings, node_options, place_of
from mpfora.config.settings import SettingsError
from mpfora.embedded.choice import resolve
from mpfora.errors import EmbeddedError
from mpfora.linux.standard_files import hold_standard
from mpfora.linux.start_signals import ignore_signals, leave_on_signals
from mpfora.linux.syscalls import remedy_of
from mpfora.linux.systemd import NotifySocket, take_notify_socket
from mpfora.model.printable import printable
from mpfora.supervisor import garbage_collector
from mpfora.supervisor.balance.by_name import make_balancer
from mpfora.supervisor.consumer import Consumer, NodeError, show_title
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator
from mpfora.supervisor.node_log import NodeLog

USAGE = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("handlers", metavar="[HANDLER]...", nargs=-1, envvar="MPFORA_HANDLERS")
@etcd_options
@node_options
@click.version_option(__version__, prog_name="mpfora")
def main(handlers: tuple[str, ...], where: Where, **options: Any) -> None:
    """Run a node: claim tasks of the namespace and run each in a process of its own.

    HANDLER is module:attribute, or name=module:attribute where several are given; the current directory is on the
    path. Without any they are read from MPFORA_HANDLERS (with blanks between) or the --config file.

    SIGTERM or SIGINT stops every task, gives it back, and leaves within --stop-timeout plus 2 s; a second one kills
    at once. SIGUSR1 writes a summary of the node's state into its log, SIGUSR2 where its supervisor is.
    """
    try:
        node(handlers, where, options)
    except SettingsError as error:
        raise click.UsageError(f"{place_of(error)}{error}") from error


def node(handlers: tuple[str, ...], where: Where, options: dict[str, Any]) -> None:
    """Check everything that can be checked before etcd is asked, then run."""
    check_names([parse_spec(text) for text in handlers])
    notify = _notify_socket()
    settings = make_settings(where.namespace, handlers, options)
    balancer = make_balancer(options["balancer"])
    show_title(settings.name)
    with ExitStack() as stack:
        logs = NodeLog(settings.name, options["log_format"], options["log_level"])
        stack.callback(logs.close)
        etcd, embedded = resolve(where)
        if embedded is not None:
            stack.callback(embedded.close)
        coordinator = EtcdCoordinator(etcd, namespace=where.namespace)
        garbage_collector.calm()
        Consumer(coordinator, list(handlers), balancer, settings, exclusive=True, notify=notify).run()


def _notify_socket() -> NotifySocket | None:
    """Taken before anything is started that would inherit its name."""
    try:
        return take_notify_socket()
    except ValueError as error:
        raise click.UsageError(
            f"{error}: the service manager has set it, and cannot be told how the node is"
        ) from error


def run() -> NoReturn:
    """The program: whatever ends it is one text on standard error and an exit code."""
    leave_on_signals()
    hold_standard()
    faulthandler.enable(2)  # libraries in C abort where they get no memory, and say nothing
    try:
        main(prog_name="python -m mpfora.supervisor", standalone_mode=False)
    except click.ClickException as error:
        _leave(error.exit_code, explain(error))
    except (SettingsError, HandlerSpecError, EmbeddedError) as error:
        _leave(USAGE, str(error))
    except NodeError as error:
        _leave(error.code, str(error))
    except (OSError, RuntimeError, MemoryError) as error:
        if not (remedy := _remedy(error)):
            raise
        sys.unraisablehook = lambda _: None  # what is half made fails when it is let go of: why has been said
        _leave(1, f"this node cannot go on: {str(error) or 'it gets no memory'}: {remedy}")
    ignore_signals()
    sys.exit(0)


def _remedy(error: OSError | RuntimeError | MemoryError) -> str:
    """What a person may do where the machine refuses what a node cannot be without; "" where it is something else."""
    if not isinstance(error, RuntimeError):
        return remedy_of(error)
    if "start new thread" not in str(error):
        return ""
    return " or ".join(remedy_of(OSError(number, "")) for number in (errno.EAGAIN, errno.ENOMEM))


def _leave(code: int, text: str) -> NoReturn:
    ignore_signals()
    click.echo(f"mpfora: {printable(text)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    run()
