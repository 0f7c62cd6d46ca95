"""Which etcd is used: the one that the options name, or the embedded one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpfora.config.etcd_location import (
    PASSWORD_VARIABLE,
    Where,
    checked_namespace,
    in_variables,
    parse_endpoints,
    quota_of,
    where_by_environment,
)
from mpfora.config.settings import EtcdSettings, SettingsError
from mpfora.model.printable import printable
from mpfora.store.etcd.credentials import BadTls, Credentials

if TYPE_CHECKING:
    from mpfora.embedded.keeper_client import Embedded


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
    settings = EtcdSettings(
        endpoints=parse_endpoints(where.etcd or ""),
        cacert=where.cacert,
        cert=where.cert,
        key=where.key,
        user=where.user,
        password=password if where.user is not None else None,
        quota=quota_of(),
    )
    try:
        Credentials(settings)
    except BadTls as error:
        raise SettingsError(error.option, error.text) from None
    return settings


def resolve(where: Where, say: Callable[[str], None] | None = None) -> tuple[EtcdSettings, Embedded | None]:
    """How to reach etcd. Where no endpoint is given it is the embedded one; the caller closes that at the end.

    Blocks while etcd starts: called before any event loop. `say` gets the line that tells of the embedded etcd; the
    default writes it to standard error. Raises SettingsError and EmbeddedError.
    """
    checked_namespace(where.namespace, "--namespace")
    if where.etcd is not None:
        return etcd_settings(where), None
    for option, value in (("--etcd-cacert", where.cacert), ("--etcd-cert", where.cert), ("--etcd-user", where.user)):
        if value is not None:
            raise SettingsError(option, "needs --etcd: the embedded etcd has neither TLS nor users")
    # much to import, and nothing to do where an etcd was named
    from mpfora.embedded.keeper_client import acquire

    embedded = acquire(where.data_dir, where.program)
    (say or _say)(describe(embedded))
    return EtcdSettings(endpoints=(embedded.endpoint,), quota=quota_of()), embedded


def resolve_by_environment() -> tuple[EtcdSettings, Embedded | None]:
    """How to reach the etcd that the commands of this environment use: for a Client that was told of none. Blocks while
    an embedded one starts. Raises SettingsError, which names the variable, and EmbeddedError."""
    with in_variables():
        return resolve(where_by_environment(), logging.getLogger("mpfora.embedded").info)


def describe(embedded: Embedded) -> str:
    verb = "started" if embedded.started else "joined"
    return f"no --etcd given: {verb} the embedded etcd at {embedded.endpoint} (data in {embedded.data_dir})"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a disk that is full: a node starts all the same
        print(f"mpfora: {printable(line)}", file=sys.stderr, flush=True)
