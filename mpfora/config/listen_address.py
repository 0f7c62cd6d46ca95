"""Where a service listens: [HOST:]PORT. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mpfora.model.units import shown

#: where no host is named nobody comes in from other machines
LOOPBACK = "127.0.0.1"


class ListenAddress(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen_address(text: str) -> ListenAddress:
    """Raises ValueError. Port 0: any that is free."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{shown(text)}: write an IPv6 address in brackets, as in [::1]:9100")
    if not port.isdecimal() or not port.isascii() or int(port) > 65_535:
        raise ValueError(f"{shown(text)} is not [HOST:]PORT, as in 9100 or 0.0.0.0:9100")
    if colon and not host:
        raise ValueError(f"{shown(text)}: name the host, as in 0.0.0.0:{port} for all addresses of this machine")
    return ListenAddress(host or LOOPBACK, int(port))
