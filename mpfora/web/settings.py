"""WebSettings: what `mpfora web` listens on, who may come in, and what is hidden. What cannot hold is refused
here, with the option that has to change."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from mpfora.config.settings import SettingsError
from mpfora.model.units import shown
from mpfora.web.people import ROLES, Role

DEFAULT_LISTEN = "127.0.0.1:8460"
DEFAULT_REDACT = "password|passwd|secret|token|api_?key|credential"
#: how people are known; "link" is what there is without --auth
LINK, TOKEN, BASIC, HEADER = "link", "token", "basic", "header"
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class WebSettings:
    """host, port    where it listens; port 0: any that is free
    auth, auth_arg   LINK, TOKEN or BASIC with a file, HEADER with the header's name
    role             of people whom --auth header or --client-ca lets in
    proxies          from whom such a header is taken
    prefix           what the path of every page begins with, "" or like "/mpfora"
    redact           names in props, checkpoints and results whose values nobody is shown
    """

    host: str = "127.0.0.1"
    port: int = 8460
    auth: str = LINK
    auth_arg: str = ""
    role: Role = Role.VIEW
    is_read_only: bool = False
    proxies: tuple[Network, ...] = ()
    prefix: str = ""
    redact: re.Pattern[str] = re.compile(DEFAULT_REDACT, re.IGNORECASE)
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def make_settings(
    listen: str = DEFAULT_LISTEN,
    auth: str | None = None,
    role: str = "view",
    read_only: bool = False,
    trusted_proxies: tuple[str, ...] = (),
    url_prefix: str = "",
    redact: str = DEFAULT_REDACT,
    cert: str | None = None,
    key: str | None = None,
    client_ca: str | None = None,
) -> WebSettings:
    """Raises SettingsError."""
    host, port = parse_listen(listen)
    kind, arg = _parse_auth(auth)
    made = WebSettings(
        host, port, kind, arg, ROLES[role], read_only, tuple(map(_parse_network, trusted_proxies)),
        _parse_prefix(url_prefix), _parse_redact(redact), cert, key, client_ca,
    )  # fmt: skip
    _check(made)
    return made


def _check(made: WebSettings) -> None:
    if (made.cert is None) != (made.key is None):
        raise SettingsError("--cert", "--cert and --key go together")
    if made.client_ca is not None and made.cert is None:
        raise SettingsError("--client-ca", "certificates of clients need TLS: give --cert and --key, too")
    if made.client_ca is not None and made.auth != LINK:
        raise SettingsError(
            "--client-ca", f"it says how people are known, and so does --auth {made.auth}: give one of them"
        )
    if made.auth == HEADER and not made.proxies:
        raise SettingsError(
            "--auth", "header needs --trusted-proxy: without it anybody could write the header and be anybody"
        )
    if made.proxies and made.auth != HEADER:
        raise SettingsError("--trusted-proxy", "it is for --auth header:NAME alone")
    if not made.is_loopback and made.auth == LINK and made.client_ca is None:
        raise SettingsError(
            "--listen",
            f"{made.host} can be reached from outside: say who may come in, by --auth token:FILE, basic:FILE or"
            " header:NAME, or by --client-ca FILE",
        )


def parse_listen(text: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT", "[HOST]:PORT", ":PORT" or "PORT". Without a host it is 127.0.0.1."""
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not text.startswith("[")):
        raise SettingsError("--listen", f"{shown(text)}: write HOST:PORT, as in {DEFAULT_LISTEN}")
    return host or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`. A name must mean loopback addresses alone."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(one[4][0]).split("%")[0]).is_loopback for one in found)


def _parse_auth(text: str | None) -> tuple[str, str]:
    if text is None:
        return LINK, ""
    kind, _, arg = text.partition(":")
    if kind not in (TOKEN, BASIC, HEADER) or not arg:
        raise SettingsError("--auth", f"{shown(text)}: write token:FILE, basic:FILE or header:NAME")
    if kind == HEADER and not _HEADER_NAME.fullmatch(arg):
        raise SettingsError("--auth", f"{shown(arg)} is not the name of a header, as in header:X-Forwarded-User")
    return kind, arg


def _parse_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise SettingsError("--trusted-proxy", f"{shown(text)}: write an address or a network, as 10.0.0.0/8") from None


def _parse_prefix(text: str) -> str:
    text = text.strip().rstrip("/")
    if text and not _PREFIX.fullmatch(text):
        raise SettingsError("--url-prefix", f"{shown(text)}: write a path like /mpfora")
    return text


def _parse_redact(text: str) -> re.Pattern[str]:
    """An empty pattern hides nothing."""
    try:
        return re.compile(text or r"(?!)", re.IGNORECASE)
    except re.error as error:
        raise SettingsError("--redact", f"{shown(text)} is not a regular expression: {error}") from None
