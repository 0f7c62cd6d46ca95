"""Where etcd is: what the options and the environment's variables say of it.

`mpfora/config/etcd_options.py` reads it from a command line, `where_by_environment` from the variables alone, and
`mpfora/embedded/choice.py` makes connection settings of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mpfora.config.settings import SECRETS, SettingsError, check_namespace
from mpfora.model.units import parse_size

DEFAULT_PORT = 2379
DEFAULT_NAMESPACE = "mpfora"
(PASSWORD_VARIABLE,) = SECRETS
#: how large etcd may get: told to an embedded one when it starts, and of another one that does not tell it itself
QUOTA_VARIABLE = "MPFORA_ETCD_QUOTA"
_ENDPOINT = re.compile(r"(?P<scheme>https?://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d{1,5}))?/?\Z")
_SOCKET = re.compile(r"unix:(//)?(?P<path>/[^\0]+)\Z")

#: the option of each field of Where; its variable is named after it
OPTIONS = {
    "namespace": "--namespace",
    "etcd": "--etcd",
    "cacert": "--etcd-cacert",
    "cert": "--etcd-cert",
    "key": "--etcd-key",
    "user": "--etcd-user",
    "data_dir": "--data-dir",
    "program": "--etcd-program",
}


@dataclass(frozen=True, slots=True)
class Where:
    """The options as typed; None: not given. The password is read from the environment: others can see arguments."""

    namespace: str = DEFAULT_NAMESPACE
    etcd: str | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    data_dir: str | None = None
    program: str | None = None


def variable_of(option: str) -> str:
    """The environment variable that stands for an option: MPFORA_ETCD_USER for --etcd-user."""
    return "MPFORA_" + option.removeprefix("--").replace("-", "_").upper()


def where_by_environment(environ: Mapping[str, str] = os.environ) -> Where:
    """What the variables say, as the commands read them: an empty one counts as not set."""
    told = {name: value for name, option in OPTIONS.items() if (value := environ.get(variable_of(option)))}
    told["namespace"] = told.get("namespace", DEFAULT_NAMESPACE).strip()
    return Where(**told)


def namespace_by_environment() -> str:
    """The namespace of the commands, for a client that was told of none. Raises SettingsError."""
    return checked_namespace(where_by_environment().namespace, variable_of(OPTIONS["namespace"]))


def checked_namespace(name: str, what: str) -> str:
    """Raises SettingsError that names `what`."""
    try:
        return check_namespace(name, what)
    except ValueError as error:
        raise SettingsError(what, str(error).removeprefix(f"{what}: ")) from None


@contextmanager
def in_variables() -> Iterator[None]:
    """Within it, a SettingsError speaks of the variables, for a program that has been given no options."""
    try:
        yield
    except SettingsError as error:
        text = str(error).removeprefix(f"{error.option}: ")
        for option in sorted(OPTIONS.values(), key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){option}(?![\w-])", variable_of(option), text)
        option = error.option
        raise SettingsError(variable_of(option) if option in OPTIONS.values() else option, text) from None


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
