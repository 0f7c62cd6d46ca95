"""`python -m mpfora.supervisor [HANDLER ...]`: a node, from the command line.

Exit codes: 0 stopped in order; 2 bad usage or configuration; 3 etcd not reachable at start; 4 the node's name is
taken; 5 a handler cannot be imported; 6 the store cannot be followed any more (its history went back, or the right to
read it was taken away); 1 a bug.
"""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import ExitStack
from typing import Any, NoReturn

import click

from mpfora import __version__
from mpfora.config import SettingsError
from mpfora.errors import EmbeddedError
from mpfora.handler_spec import HandlerSpecError, check_names, parse_spec
from mpfora.options import Where, etcd_options, resolve
from mpfora.supervisor.balancers import make_balancer
from mpfora.supervisor.consumer import Consumer, NodeError, show_title
from mpfora.supervisor.etcd_coordinator import EtcdCoordinator
from mpfora.supervisor.logs import Logs
from mpfora.supervisor.options import explain, make_settings, node_options

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
    at once.
    """
    node(handlers, where, options)


def node(handlers: tuple[str, ...], where: Where, options: dict[str, Any]) -> None:
    """Check everything that can be checked before etcd is asked, then run."""
    check_names([parse_spec(text) for text in handlers])
    settings = make_settings(where.namespace, handlers, options)
    balancer = make_balancer(options["balancer"])
    show_title(settings.name)
    with ExitStack() as stack:
        logs = Logs(settings.name, options["log_format"], options["log_level"])
        stack.callback(logs.close)
        etcd, embedded = resolve(where)
        if embedded is not None:
            stack.callback(embedded.close)
        coordinator = EtcdCoordinator(etcd, namespace=where.namespace)
        _calm_the_collector()
        Consumer(coordinator, list(handlers), balancer, settings, exclusive=True).run()


def _calm_the_collector() -> None:
    """What has been imported stays, and what events and answers leave behind is almost never in cycles: to look for
    these after every few hundred objects, as Python does, costs a busy supervisor a tenth of its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run() -> NoReturn:
    """The program: whatever ends it is one text on standard error and an exit code."""
    try:
        main(prog_name="python -m mpfora.supervisor", standalone_mode=False)
    except click.ClickException as error:
        _leave(error.exit_code, explain(error))
    except (SettingsError, HandlerSpecError, EmbeddedError) as error:
        _leave(USAGE, str(error))
    except NodeError as error:
        _leave(error.code, str(error))
    except click.Abort:  # Ctrl-C before the node has begun to run, or after
        _leave(128 + signal.SIGINT, "interrupted")
    sys.exit(0)


def _leave(code: int, text: str) -> NoReturn:
    click.echo(f"mpfora: {text}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    run()
