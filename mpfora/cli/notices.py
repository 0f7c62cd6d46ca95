"""The notices about tasks that were submitted while Go nodes are live."""

from __future__ import annotations

from collections.abc import Sequence

from mpfora.cli import printing
from mpfora.cli.session import Session
from mpfora.client.tasks.submit import NewTask
from mpfora.errors import MpforaError

#: the most notices that one command prints
_SHOWN = 5


def tell_notices(session: Session, tasks: Sequence[NewTask]) -> None:
    """Print the notices. The tasks are submitted already, so trouble here is not an error of the command."""
    try:
        lines = session.client().notices(tasks)
    except MpforaError as error:
        lines = [f"whether Go nodes are live is not known: {error}"]
    more = [f"and {len(lines) - _SHOWN} more of the kind"] if len(lines) > _SHOWN else []
    for line in lines[:_SHOWN] + more:
        printing.tell(f"note: {line}")
