"""The wait for a node that restarts. Who started it by hand is told so early: nobody else starts it again."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from mpfora.cli import printing
from mpfora.errors import MpforaError

if TYPE_CHECKING:
    from mpfora.client import Client

#: a service manager has started a node again by then
AWAY_S = 15.0


def restart_node(client: Client, name: str, timeout_s: float) -> None:
    """As Client.restart_node. A node that has left and stays away for AWAY_S is told of, once."""
    timer = threading.Timer(AWAY_S, _tell_away, (client, name))
    timer.daemon = True
    timer.start()
    try:
        client.restart_node(name, timeout_s)
    finally:
        timer.cancel()


def _tell_away(client: Client, name: str) -> None:
    with suppress(MpforaError):
        if name not in {node.name for node in client.nodes()}:
            printing.tell(
                f"{name} has left with exit code 75, and is not back after {AWAY_S:g} s: if no service manager starts"
                " it again, start it by hand"
            )
